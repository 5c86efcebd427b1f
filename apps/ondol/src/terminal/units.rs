//! Numbers as people read them: byte sizes, parameter counts, durations and distances in time, in the forms that
//! users of Ollama know. Pure; "now" is passed in.

use std::time::{Duration, SystemTime};

use crate::terminal::messages::{Language, Message, say};

/// `1.2 GB`, `98 MB`: decimal units, one digit after the point below ten.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")];
    for (size, unit) in UNITS {
        if count >= size {
            let tenths = (u128::from(count) * 10 / u128::from(size)) as u64;
            return if tenths >= 100 || tenths.is_multiple_of(10) {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{count} B")
}

/// `134.52M`, `8.0B`: how many parameters a model has.
pub(crate) fn parameters(count: u64) -> String {
    let value = count as f64;
    match count {
        1_000_000_000.. => format!("{:.1}B", value / 1e9),
        1_000_000.. => format!("{:.2}M", value / 1e6),
        1_000.. => format!("{:.0}K", value / 1e3),
        _ => count.to_string(),
    }
}

/// `1h2m3.5s`, `130.079ms`, `12µs`: a measured duration, without losing digits that were measured.
pub(crate) fn duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let seconds = value.as_secs();
            let rest = decimal(
                u128::from(seconds % 60) * 1_000_000_000 + u128::from(value.subsec_nanos()),
                1_000_000_000,
            );
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

/// `value / unit` with all its digits and no trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let digits = format!("{}.{:0width$}", value / unit, value % unit);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `12s`, `1m40s`, `2h5m`: time left, to the second.
pub(crate) fn time_left(value: Duration) -> String {
    let seconds = value.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, _) if h < 100 => format!("{h}h{m}m"),
        _ => "99h+".to_owned(),
    }
}

/// `2 weeks ago`, `4 minutes from now`, `2주 전`, `4분 후`.
pub(crate) fn distance(language: Language, now: SystemTime, then: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(past) => say(language, Message::TimeAgo, &[("span", &span(language, past))]),
        Err(future) => say(language, Message::TimeFromNow, &[("span", &span(language, future.duration()))]),
    }
}

/// A span in the largest unit that says it well enough. The limits are Ollama's.
fn span(language: Language, value: Duration) -> String {
    let seconds = value.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let (message, count) = match seconds {
        0 => (Message::SpanInstant, 0),
        1 => (Message::SpanSecond, 1),
        2..60 => (Message::SpanSeconds, seconds),
        _ if minutes == 1 => (Message::SpanMinute, 1),
        _ if minutes < 60 => (Message::SpanMinutes, minutes),
        _ if hours == 1 => (Message::SpanHour, 1),
        _ if hours < 48 => (Message::SpanHours, hours),
        _ if hours < 24 * 14 => (Message::SpanDays, hours / 24),
        _ if hours < 24 * 60 => (Message::SpanWeeks, hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => (Message::SpanMonths, hours / 24 / 30),
        _ => (Message::SpanYears, hours / 24 / 365),
    };
    say(language, message, &[("count", &count.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 KB"),
            (1_500, "1.5 KB"),
            (98_400_000, "98 MB"),
            (253_100_000, "253 MB"),
            (1_200_000_000, "1.2 GB"),
            (4_700_000_000, "4.7 GB"),
            (12_000_000_000_000, "12 TB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn parameter_counts() {
        for (count, expected) in [
            (134_515_008, "134.52M"),
            (268_098_176, "268.10M"),
            (8_030_000_000, "8.0B"),
            (12_000, "12K"),
            (7, "7"),
        ] {
            assert_eq!(parameters(count), expected);
        }
    }

    #[test]
    fn durations() {
        for (nanos, expected) in [
            (0, "0s"),
            (900, "900ns"),
            (1_500, "1.5µs"),
            (130_079_000, "130.079ms"),
            (4_232_710_000, "4.23271s"),
            (61_000_000_000, "1m1s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn times_left() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (100, "1m40s"), (7500, "2h5m"), (1 << 40, "99h+")]
        {
            assert_eq!(time_left(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn distances_in_time() {
        const DAY: u64 = 86_400;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (seconds, english, korean) in [
            (0, "Less than a second ago", "잠시 전"),
            (1, "1 second ago", "1초 전"),
            (30, "30 seconds ago", "30초 전"),
            (60, "About a minute ago", "1분 전"),
            (240, "4 minutes ago", "4분 전"),
            (3600, "About an hour ago", "1시간 전"),
            (5 * 3600, "5 hours ago", "5시간 전"),
            (3 * DAY, "3 days ago", "3일 전"),
            (15 * DAY, "2 weeks ago", "2주 전"),
            (70 * DAY, "2 months ago", "2개월 전"),
            (800 * DAY, "2 years ago", "2년 전"),
        ] {
            let then = now - Duration::from_secs(seconds);
            assert_eq!(distance(Language::English, now, then), english);
            assert_eq!(distance(Language::Korean, now, then), korean);
        }
        let later = now + Duration::from_secs(299);
        assert_eq!(distance(Language::English, now, later), "4 minutes from now");
        assert_eq!(distance(Language::Korean, now, later), "4분 후");
    }
}
