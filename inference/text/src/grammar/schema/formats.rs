//! The values of `format` that are enforced, as regular expressions that match the whole string. Each is at most as wide as
//! its specification, and leaves nothing to a second look: leap years and leap seconds are in the expression.
//!
//! Sources: RFC 3339 (date, time, date-time, duration in its appendix A), RFC 5321 and 5322 (email: the dot-string form),
//! RFC 1123 (hostname), RFC 2673 and 4291 (ipv4, ipv6), RFC 4122 (uuid), RFC 3986 (uri, uri-reference), RFC 6901
//! (json-pointer). Number formats are OpenAPI's.

/// What a format asks for.
pub(crate) enum Format {
    /// Of strings: this expression, and at most so many characters.
    Text { pattern: String, chars_max: Option<usize> },
    /// Of integers: between these.
    Integer { minimum: f64, maximum: f64 },
    /// A hint that rules nothing out.
    Hint,
}

/// The largest integer up to which every one is exact in a double.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// The format of this name.
pub(crate) fn lookup(name: &str) -> Option<Format> {
    let text = |pattern: String| Format::Text { pattern, chars_max: None };
    let bounded = |pattern: String, chars| Format::Text { pattern, chars_max: Some(chars) };
    let signed = |bits: i32| {
        let bound = 2f64.powi(bits - 1);
        Format::Integer { minimum: (-bound).max(-EXACT), maximum: (bound - 1.0).min(EXACT) }
    };
    let unsigned = |bits: i32| Format::Integer { minimum: 0.0, maximum: (2f64.powi(bits) - 1.0).min(EXACT) };
    Some(match name {
        "date" => text(date()),
        "time" => text(time()),
        "date-time" => text(format!("{}[Tt]{}", date(), time())),
        "duration" => text(DURATION.to_owned()),
        "email" => bounded(email(), 254),
        "hostname" => bounded(hostname(), 253),
        "ipv4" => text(IPV4.to_owned()),
        "ipv6" => text(ipv6()),
        "uuid" => text("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}".to_owned()),
        "uri" => text(uri(true)),
        "uri-reference" => text(format!("({}|{})", uri(true), uri(false))),
        "json-pointer" => text("(/([^/~]|~[01])*)*".to_owned()),
        "relative-json-pointer" => text("(0|[1-9][0-9]*)(#|(/([^/~]|~[01])*)*)".to_owned()),
        "int8" => signed(8),
        "int16" => signed(16),
        "int32" => signed(32),
        "int64" | "int" | "isize" => signed(64),
        "uint8" => unsigned(8),
        "uint16" => unsigned(16),
        "uint32" => unsigned(32),
        "uint64" | "uint" | "usize" => unsigned(64),
        "float" | "double" | "password" | "path" | "file-path" | "directory-path" => Format::Hint,
        _ => return None,
    })
}

/// Years that 4 divides, but of the centuries only those that 400 divides, have a 29th of February.
fn date() -> String {
    let leap = "(([0-9]{2}(0[48]|[2468][048]|[13579][26]))|((0[048]|[2468][048]|[13579][26])00))";
    let days = "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])";
    format!("([0-9]{{4}}-({days})|{leap}-02-29)")
}

/// A leap second is one only at 23:59:60 in UTC, so no zone but `Z` is given to one.
fn time() -> String {
    let fraction = r"(\.[0-9]{1,9})?";
    let zone = "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
    format!("(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]{fraction}{zone}|23:59:60{fraction}[Zz])")
}

const DURATION: &str = concat!(
    "P([0-9]{1,9}W|",
    "([0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?|[0-9]{1,9}M([0-9]{1,9}D)?|[0-9]{1,9}D)",
    "(T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))?|",
    "T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))"
);

/// A label of a name: letters, digits, dashes inside; the third and fourth character are not both dashes, which is kept
/// for names in other alphabets.
const LABEL: &str = "[A-Za-z0-9]([A-Za-z0-9]|-[A-Za-z0-9]){0,30}";

fn hostname() -> String {
    format!(r"{LABEL}(\.{LABEL})*")
}

fn email() -> String {
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
    format!(r"{atom}(\.{atom}){{0,2}}@{LABEL}(\.{LABEL})+")
}

const IPV4: &str =
    r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// All eight groups, or fewer around one `::`.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let mut forms = vec![format!("({group}:){{7}}{group}")];
    for before in 0..=7 {
        let after = 7 - before;
        let head = match before {
            0 => String::new(),
            count => format!("{group}(:{group}){{{}}}", count - 1),
        };
        forms.push(match after {
            0 => format!("{head}::"),
            count => format!("{head}::({group}(:{group}){{0,{}}})?", count - 1),
        });
    }
    format!("({})", forms.join("|"))
}

/// RFC 3986's `URI`, or its `relative-ref`.
fn uri(with_scheme: bool) -> String {
    let hex = "%[0-9A-Fa-f]{2}";
    let unreserved = r"A-Za-z0-9._~!$&'()*+,;=\-";
    let segment_char = format!("([{unreserved}:@]|{hex})");
    let first_char = format!("([{unreserved}@]|{hex})");
    let authority = format!(r"(([{unreserved}:]|{hex})*@)?([{unreserved}]|{hex})*(:[0-9]{{0,5}})?");
    let path_after = format!("(/{segment_char}*)*");
    let absolute = format!("/({segment_char}+{path_after})?");
    let tail = format!(r"(\?({segment_char}|[/?])*)?(#({segment_char}|[/?])*)?");
    if with_scheme {
        let rootless = format!("{segment_char}+{path_after}");
        format!("[A-Za-z][A-Za-z0-9+.-]*:(//{authority}{path_after}|{absolute}|{rootless}|){tail}")
    } else {
        let no_scheme = format!("{first_char}+{path_after}");
        format!("(//{authority}{path_after}|{absolute}|{no_scheme}|){tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, yes: &[&str], no: &[&str]) {
        let Some(Format::Text { pattern, .. }) = lookup(name) else { panic!("{name} is no format of texts") };
        let pattern = super::super::pattern::translate(&format!("^({pattern})$")).unwrap().0;
        let regex = regex_automata::meta::Regex::new(&pattern).unwrap();
        for text in yes {
            assert!(regex.is_match(text), "{name} refuses {text:?}");
        }
        for text in no {
            assert!(!regex.is_match(text), "{name} accepts {text:?}");
        }
    }

    #[test]
    fn dates_and_times() {
        let yes = ["2024-02-29", "2000-02-29", "2026-11-20", "0000-02-29", "0400-12-31"];
        check("date", &yes, &["2023-02-29", "1900-02-29", "2026-13-01", "2026-04-31", "26-01-01"]);
        let yes = ["23:59:60Z", "00:00:00+09:00", "12:34:56.789z"];
        check("time", &yes, &["23:59:60+01:00", "12:34:60Z", "24:00:00Z", "12:34:56"]);
        check("date-time", &["2026-11-20T10:06:27Z"], &["2026-11-20 10:06:27Z", "2026-02-29T00:00:00Z"]);
        let yes = ["P1Y", "P1Y2M3D", "PT1H", "P1DT12H", "P4W", "PT36H", "P1M"];
        check("duration", &yes, &["P", "PT", "P1Y2D", "P1W1D", "1D", "P1H"]);
    }

    #[test]
    fn names_and_addresses() {
        check(
            "email",
            &["a@b.kr", "first.last+tag@mail.example.com"],
            &["a@", "@b.kr", "a..b@c.kr", "a b@c.kr"],
        );
        check("hostname", &["localhost", "a-b.example"], &["-a", "a-", "a..b", "xn--a", "a_b"]);
        check("ipv4", &["0.0.0.0", "255.255.255.255"], &["256.0.0.1", "1.2.3", "01.2.3.4"]);
        let yes = ["::", "::1", "1::", "fe80::1:2", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::"];
        check("ipv6", &yes, &["1:2:3:4:5:6:7", "1::2::3", ":1", "12345::", "1:2:3:4:5:6:7:8:9"]);
        check("uuid", &["123e4567-e89b-12d3-a456-426614174000"], &["123e4567e89b12d3a456426614174000"]);
        let yes = ["http://a.kr/b?c=d#e", "urn:isbn:1", "mailto:a@b.kr", "file:///tmp", "a:"];
        check("uri", &yes, &["//a.kr", "a b:c", "/path", "1a:b", "http://a.kr/<"]);
        check("uri-reference", &["/path", "//a.kr", "a/b", "", "?q", "a:b"], &["a b", "<"]);
        check("json-pointer", &["", "/", "/a~1b/0"], &["a", "/a~2"]);
    }

    #[test]
    fn numbers_and_hints() {
        let bounds = |name| match lookup(name) {
            Some(Format::Integer { minimum, maximum }) => (minimum, maximum),
            _ => panic!("{name} is no format of integers"),
        };
        assert_eq!(bounds("int32"), (-2_147_483_648.0, 2_147_483_647.0));
        assert_eq!(bounds("uint8"), (0.0, 255.0));
        assert_eq!(bounds("int64"), (-EXACT, EXACT));
        assert!(matches!(lookup("double"), Some(Format::Hint)));
        assert!(lookup("idn-email").is_none());
    }
}
