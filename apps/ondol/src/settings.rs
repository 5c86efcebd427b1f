//! The settings of one run of the program: flags, then our environment variables (`ONDOL_…`), then Ollama's
//! (`OLLAMA_…`), then defaults. The only reader of the environment; everything else is handed a [`Settings`].

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::KeepAlive;
use engine::Products;
use kernels::KvType;
use registry::PackedLimits;
use weights::Quant;
use weights::quantize::Mix;

use crate::drafts::Drafts;
use crate::flags::Global;
use crate::memory::MemoryShare;
use crate::terminal::failure::Failure;
use crate::terminal::messages::{Language, Message, say};

/// What the program was told, beyond its command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub language: Language,
    /// Ondol's own folder (`~/.ondol`); `None` when there is no home to put it in.
    pub home: Option<PathBuf>,
    /// Root of the model store, when it is not `home`.
    pub models: Option<PathBuf>,
    /// An existing Ollama model folder: read, never written.
    pub ollama_models: Option<PathBuf>,
    pub host: Host,
    /// Whether the user named a host, or it is the default.
    pub host_chosen: bool,
    pub keep_alive: Option<KeepAlive>,
    pub context_tokens: Option<u32>,
    /// Most models in memory at once.
    pub models_max: Option<usize>,
    /// What all models may take of the memory.
    pub memory: Option<MemoryShare>,
    /// How long a request may wait until there is room for its model.
    pub load_wait: Option<Duration>,
    /// Answers of one model at once.
    pub sequences_max: Option<usize>,
    /// Requests for one model that may wait.
    pub waiting_max: Option<usize>,
    pub threads: Option<usize>,
    /// Bytes of keys and values that are kept for later requests; 0: none.
    pub prefix_cache_bytes: Option<u64>,
    /// Tokens of a step up to which the next ones are guessed; 0: none.
    pub draft_tokens_max: Option<u32>,
    /// Which model guesses for which.
    pub drafts: Drafts,
    /// Web origins that may call the server, beside local ones.
    pub origins: Vec<String>,
    /// Keys that a server of ours accepts.
    pub keys: Vec<String>,
    /// The key with which we ask a server.
    pub client_key: Option<String>,
    /// Whether the interactive prompt keeps a history file.
    pub history: bool,
    pub offline: bool,
    /// Bytes that pages of keys and values kept between runs may take; `None`: none are kept.
    pub kv_spill_bytes_max: Option<u64>,
    /// Bytes that kept packed weights may take; `None`: none are kept.
    pub packed_bytes_max: Option<u64>,
    /// How keys and values of past tokens are kept.
    pub kv_type: KvType,
    /// Whether prompts are read with weights rounded once more.
    pub fast_prefill: bool,
    /// How exactly models that give vectors and scores multiply floats.
    pub encoder_products: Products,
    /// How models are quantised while they are loaded; required where a flag says so.
    pub quant: Option<Quant>,
    /// Certificate authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The machine's proxies, for what is fetched.
    pub proxies: net::Proxies,
    /// Sent to the Hugging Face hub and nobody else.
    pub huggingface_token: Option<registry::Secret>,
    /// A mirror that takes the hub's place.
    pub huggingface_hub: Option<String>,
    /// Whether log lines may be coloured on a terminal (NO_COLOR).
    pub colour: bool,
    /// Filter of the log lines on standard error.
    pub log: String,
}

/// A snapshot of the environment: the process's, or a test's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(HashMap<String, String>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 do not count.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// The variable's value; an empty one counts as unset.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
    }

    /// Our variable, or Ollama's: its name and value.
    fn either<'a>(&self, ours: &'a str, ollamas: &'a str) -> Option<(&'a str, &str)> {
        self.get(ours).map(|value| (ours, value)).or_else(|| self.get(ollamas).map(|value| (ollamas, value)))
    }

    /// The user's language, before flags can be parsed: `--lang`, `ONDOL_LANG`, then the locale.
    pub(crate) fn language(&self, flag: Option<&str>) -> Language {
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(|name| self.get(name));
        [flag, self.get("ONDOL_LANG"), locale]
            .into_iter()
            .flatten()
            .find_map(Language::from_name)
            .unwrap_or(Language::English)
    }
}

impl Settings {
    /// Reads everything once. A value that cannot be meant is an error, not a default.
    pub(crate) fn read(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        let language = environment.language(global.lang.as_deref());
        let env = Reader { language, environment };
        if let Some(value) = &global.lang
            && Language::from_name(value).is_none()
        {
            return Err(env.invalid("--lang", value, Message::WantedLanguage));
        }
        let user_home = environment.get("HOME").or_else(|| environment.get("USERPROFILE")).map(PathBuf::from);
        let home = environment
            .get("ONDOL_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(user_home.as_ref()?.join(".ondol")));
        let models = global.models.clone().or_else(|| environment.get("ONDOL_MODELS").map(PathBuf::from));
        let host = env.parsed("ONDOL_HOST", "OLLAMA_HOST", Message::WantedAddress, Host::parse)?;
        let keys = env.list("ONDOL_API_KEYS", "ONDOL_API_KEYS");
        Ok(Self {
            language,
            home,
            models,
            ollama_models: ollama_folder(environment.get("OLLAMA_MODELS"), user_home.as_deref()),
            host_chosen: host.is_some(),
            host: host.unwrap_or_default(),
            keep_alive: env.parsed(
                "ONDOL_KEEP_ALIVE",
                "OLLAMA_KEEP_ALIVE",
                Message::WantedDuration,
                parse_keep_alive,
            )?,
            context_tokens: env.positive("ONDOL_CONTEXT_LENGTH", "OLLAMA_CONTEXT_LENGTH")?,
            models_max: env.positive("ONDOL_MAX_LOADED_MODELS", "OLLAMA_MAX_LOADED_MODELS")?,
            memory: env.parsed("ONDOL_MEMORY", "ONDOL_MEMORY", Message::WantedMemory, MemoryShare::parse)?,
            load_wait: env.parsed(
                "ONDOL_LOAD_TIMEOUT",
                "OLLAMA_LOAD_TIMEOUT",
                Message::WantedDuration,
                parse_load_wait,
            )?,
            sequences_max: env.number("ONDOL_NUM_PARALLEL", "OLLAMA_NUM_PARALLEL")?.filter(|most| *most > 0),
            waiting_max: env.number("ONDOL_MAX_QUEUE", "OLLAMA_MAX_QUEUE")?,
            prefix_cache_bytes: env.prefix_cache()?,
            draft_tokens_max: env.number("ONDOL_DRAFT_TOKENS", "ONDOL_DRAFT_TOKENS")?,
            drafts: env.drafts()?,
            threads: env.number("ONDOL_THREADS", "ONDOL_THREADS")?.filter(|threads| *threads > 0),
            origins: env.list("ONDOL_ORIGINS", "OLLAMA_ORIGINS"),
            client_key: environment.get("ONDOL_API_KEY").map(str::to_owned).or_else(|| keys.first().cloned()),
            keys,
            history: !env.switch("ONDOL_NOHISTORY", "OLLAMA_NOHISTORY"),
            offline: global.offline || env.switch("ONDOL_OFFLINE", "ONDOL_OFFLINE"),
            kv_type: env.kv_type(global.kv_type.as_deref())?,
            fast_prefill: global.fast_prefill || env.switch("ONDOL_FAST_PREFILL", "ONDOL_FAST_PREFILL"),
            encoder_products: env
                .parsed(PRODUCTS, PRODUCTS, Message::WantedProducts, parse_products)?
                .unwrap_or_default(),
            quant: env.quant(global.quant.as_deref())?,
            kv_spill_bytes_max: env.kv_spill()?,
            packed_bytes_max: env.packed_cache(global.packed_cache.as_deref())?,
            ca_file: environment
                .get("ONDOL_CA_FILE")
                .or_else(|| environment.get("SSL_CERT_FILE"))
                .map(PathBuf::from),
            proxies: net::Proxies::from_variables(|name| environment.get(name).map(str::to_owned)),
            huggingface_token: environment.get("HF_TOKEN").map(|token| registry::Secret(token.to_owned())),
            huggingface_hub: environment.get("HF_ENDPOINT").map(|hub| hub.trim_end_matches('/').to_owned()),
            colour: environment.get("NO_COLOR").is_none(),
            log: log_filter(environment.get("ONDOL_LOG"), environment.get("OLLAMA_DEBUG")),
        })
    }

    /// Where models are kept.
    pub(crate) fn store_root(&self) -> Result<PathBuf, Failure> {
        let root = self.models.clone().or_else(|| self.home.clone());
        root.ok_or_else(|| Failure::new(say(self.language, Message::NoHome, &[])))
    }

    /// The file of the interactive prompt's history.
    pub(crate) fn history_file(&self) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join("history"))
    }
}

const PRODUCTS: &str = "ONDOL_ENCODER_PRODUCTS";

fn parse_products(value: &str) -> Option<Products> {
    Some(match &*value.to_ascii_lowercase() {
        "stored" => Products::AsStored,
        "f32" => Products::Exact,
        "bf16" => Products::Rounded,
        _ => return None,
    })
}

/// Reads variables with the error that names them.
struct Reader<'a> {
    language: Language,
    environment: &'a Environment,
}

impl Reader<'_> {
    fn invalid(&self, setting: &str, value: &str, wanted: Message) -> Failure {
        invalid_setting(self.language, setting, value, wanted)
    }

    fn parsed<T>(
        &self,
        ours: &str,
        ollamas: &str,
        wanted: Message,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some((name, value)) = self.environment.either(ours, ollamas) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| self.invalid(name, value, wanted))
    }

    fn packed_cache(&self, flag: Option<&str>) -> Result<Option<u64>, Failure> {
        const VARIABLE: &str = "ONDOL_PACKED_CACHE";
        let of_flag = flag.map(|value| ("--packed-cache", value));
        let Some((name, value)) = of_flag.or_else(|| self.environment.either(VARIABLE, VARIABLE)) else {
            return Ok(Some(PackedLimits::default().total_bytes_max));
        };
        parse_packed_cache(value).ok_or_else(|| self.invalid(name, value, Message::WantedPackedCache))
    }

    fn drafts(&self) -> Result<Drafts, Failure> {
        const VARIABLE: &str = "ONDOL_DRAFT_MODEL";
        let drafts = self.parsed(VARIABLE, VARIABLE, Message::WantedDrafts, Drafts::parse)?;
        Ok(drafts.unwrap_or_default())
    }

    fn prefix_cache(&self) -> Result<Option<u64>, Failure> {
        const VARIABLE: &str = "ONDOL_PREFIX_CACHE_MIB";
        Ok(self.number::<u64>(VARIABLE, VARIABLE)?.map(|size| size.saturating_mul(1 << 20)))
    }

    fn kv_spill(&self) -> Result<Option<u64>, Failure> {
        const VARIABLE: &str = "ONDOL_KV_SPILL";
        let size = self.parsed(VARIABLE, VARIABLE, Message::WantedPackedCache, parse_packed_cache)?;
        Ok(size.flatten())
    }

    fn kv_type(&self, flag: Option<&str>) -> Result<KvType, Failure> {
        let of_flag = flag.map(|value| ("--kv-type", value));
        let given = of_flag.or_else(|| self.environment.either("ONDOL_KV_TYPE", "OLLAMA_KV_CACHE_TYPE"));
        let Some((name, value)) = given else { return Ok(KvType::default()) };
        value.parse().map_err(|_| self.invalid(name, value, Message::WantedKvType))
    }

    fn quant(&self, flag: Option<&str>) -> Result<Option<Quant>, Failure> {
        let of_flag = flag.map(|value| ("--quant", value, true));
        let variable = "ONDOL_QUANT";
        let given = of_flag.or_else(|| self.environment.get(variable).map(|value| (variable, value, false)));
        let Some((name, value, required)) = given.filter(|given| !matches!(given.1, "" | "off")) else {
            return Ok(None);
        };
        let mix = Mix::parse(value).ok_or_else(|| self.invalid(name, value, Message::WantedQuantization))?;
        Ok(Some(Quant { mix, required }))
    }

    fn number<T: std::str::FromStr>(&self, ours: &str, ollamas: &str) -> Result<Option<T>, Failure> {
        self.parsed(ours, ollamas, Message::WantedWholeNumber, |value| value.parse().ok())
    }

    /// A whole number, where 0 counts as unset.
    fn positive<T>(&self, ours: &str, ollamas: &str) -> Result<Option<T>, Failure>
    where
        T: std::str::FromStr + Default + PartialOrd,
    {
        Ok(self.number::<T>(ours, ollamas)?.filter(|number| *number > T::default()))
    }

    /// As Ollama reads switches: set, and not 0, false, no or off.
    fn switch(&self, ours: &str, ollamas: &str) -> bool {
        self.environment.either(ours, ollamas).is_some_and(|(_, value)| {
            !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "f" | "no" | "off")
        })
    }

    /// A comma-separated list.
    fn list(&self, ours: &str, ollamas: &str) -> Vec<String> {
        let value = self.environment.either(ours, ollamas).map(|(_, value)| value).unwrap_or_default();
        value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// A setting or flag whose value cannot be meant.
pub(crate) fn invalid_setting(language: Language, setting: &str, value: &str, wanted: Message) -> Failure {
    let wanted = say(language, wanted, &[]);
    Failure::new(say(
        language,
        Message::SettingInvalid,
        &[("setting", setting), ("value", value), ("wanted", &wanted)],
    ))
}

/// `OLLAMA_MODELS`, or the first of the places where Ollama keeps models that is there.
fn ollama_folder(variable: Option<&str>, user_home: Option<&Path>) -> Option<PathBuf> {
    let usual = user_home.map(|home| home.join(".ollama/models"));
    let of_service = PathBuf::from("/usr/share/ollama/.ollama/models");
    match variable {
        Some(folder) => Some(PathBuf::from(folder)),
        None => usual.into_iter().chain([of_service]).find(|folder| folder.join("manifests").is_dir()),
    }
}

/// `ONDOL_LOG` is a filter; `OLLAMA_DEBUG` is 1 for debug, 2 for everything.
fn log_filter(ours: Option<&str>, ollamas: Option<&str>) -> String {
    let level = match (ours, ollamas) {
        (Some(filter), _) => filter,
        (None, None | Some("0" | "false")) => "warn",
        (None, Some("2")) => "trace",
        (None, Some(_)) => "debug",
    };
    level.to_owned()
}

/// How long a model stays loaded, as Ollama writes it: `5m`, `1h30m`, a number of seconds, negative for ever.
pub(crate) fn parse_keep_alive(text: &str) -> Option<KeepAlive> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let forever = seconds < 0.0;
        return if forever {
            Some(KeepAlive::Forever)
        } else {
            Duration::try_from_secs_f64(seconds).ok().map(KeepAlive::For)
        };
    }
    let parsed = dialects::duration::parse(text).ok()?;
    Some(if parsed.negative { KeepAlive::Forever } else { KeepAlive::For(parsed.length) })
}

/// A time to wait; as with Ollama, zero and negative ones are for ever.
fn parse_load_wait(text: &str) -> Option<Duration> {
    Some(match parse_keep_alive(text)? {
        KeepAlive::For(time) if !time.is_zero() => time,
        KeepAlive::For(_) | KeepAlive::Forever => Duration::MAX,
    })
}

/// On, off, or the most bytes that packed weights may take: `20G`, `20GB`, `20 GiB`, in units of 1024.
fn parse_packed_cache(text: &str) -> Option<Option<u64>> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.as_str() {
        "on" | "1" | "true" | "yes" => return Some(Some(PackedLimits::default().total_bytes_max)),
        "off" | "0" | "false" | "no" => return Some(None),
        _ => {}
    }
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power)).map(Some)
}

/// Where the server listens, and where clients look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Whether clients speak TLS to it. Ours does not: a proxy in front does.
    pub tls: bool,
    /// A name or address, without brackets.
    pub name: String,
    pub port: u16,
}

impl Default for Host {
    fn default() -> Self {
        Self { tls: false, name: "127.0.0.1".to_owned(), port: Self::PORT }
    }
}

impl Host {
    /// Ollama's port, which clients try first.
    pub(crate) const PORT: u16 = 11434;

    /// `0.0.0.0`, `:8080`, `[::1]:8080`, `models.example`, `http://models.example`: as in `OLLAMA_HOST`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (tls, default_port) = match scheme {
            "" => (false, Self::PORT),
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (name, port) = split_port(authority)?;
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        let name = if name.is_empty() { "127.0.0.1" } else { name };
        let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | ':' | '_' | '%'));
        plain.then(|| Self { tls, name: name.to_owned(), port })
    }

    /// The address in a URL, for a client. "Every address of this machine" is not a place one can call.
    pub(crate) fn url(&self) -> String {
        let name = match self.name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.name.clone(),
        };
        format!("{}://{name}:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// The addresses to listen on.
    pub(crate) fn resolve(&self) -> std::io::Result<SocketAddr> {
        let mut found = (self.name.as_str(), self.port).to_socket_addrs()?;
        found.next().ok_or_else(|| std::io::Error::other("the name has no address"))
    }

    /// Whether it is this machine: loopback, or "every address", which a client reaches as loopback.
    pub(crate) fn is_here(&self) -> bool {
        self.is_loopback() || self.name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// Whether only this machine reaches it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Name and port of an authority; a bare IPv6 address has no port.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (name, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((name, Some(port))),
            None => after.is_empty().then_some((name, None)),
        };
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((authority, None)),
        Some((name, port)) => Some((name, Some(port))),
        None => Some((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(global: &Global, variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let map = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(global, &Environment(map))
    }

    fn settings(variables: &[(&str, &str)]) -> Settings {
        read(&Global::default(), variables).expect("settings")
    }

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("127.0.0.1", Some((false, "127.0.0.1", 11434))),
            ("127.0.0.1:8080", Some((false, "127.0.0.1", 8080))),
            (":8080", Some((false, "127.0.0.1", 8080))),
            ("0.0.0.0", Some((false, "0.0.0.0", 11434))),
            ("models.example", Some((false, "models.example", 11434))),
            ("http://models.example", Some((false, "models.example", 80))),
            ("https://models.example/", Some((true, "models.example", 443))),
            ("https://models.example:8443/x", Some((true, "models.example", 8443))),
            ("[::1]:9", Some((false, "::1", 9))),
            ("[::1]", Some((false, "::1", 11434))),
            ("::1", Some((false, "::1", 11434))),
            ("ftp://x", None),
            ("x:port", None),
            ("x:99999", None),
            ("[::1]x", None),
            ("a b", None),
        ] {
            let parsed = Host::parse(text);
            let expected = expected.map(|(tls, name, port)| Host { tls, name: name.to_owned(), port });
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn host_urls_can_be_called() {
        for (text, expected) in [
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("[::]:1", "http://[::1]:1"),
            ("[::1]:1", "http://[::1]:1"),
            ("https://x", "https://x:443"),
        ] {
            assert_eq!(Host::parse(text).expect("host").url(), expected);
        }
    }

    #[test]
    fn keep_alives() {
        let seconds = |s| Some(KeepAlive::For(Duration::from_secs(s)));
        for (text, expected) in [
            ("5m", seconds(300)),
            ("1h30m", seconds(5400)),
            ("1.5h", seconds(5400)),
            ("300", seconds(300)),
            ("0", seconds(0)),
            ("500ms", Some(KeepAlive::For(Duration::from_millis(500)))),
            ("-1", Some(KeepAlive::Forever)),
            ("-1m", Some(KeepAlive::Forever)),
            ("", None),
            ("-", None),
            ("soon", None),
            ("5 m", None),
            ("m", None),
            ("1e300h", None),
        ] {
            assert_eq!(parse_keep_alive(text), expected, "{text}");
        }
    }

    #[test]
    fn our_variables_win_and_ollamas_count() {
        let both = settings(&[
            ("HOME", "/home/u"),
            ("ONDOL_HOST", "127.0.0.2"),
            ("OLLAMA_HOST", "127.0.0.3"),
            ("OLLAMA_KEEP_ALIVE", "10m"),
            ("OLLAMA_CONTEXT_LENGTH", "8192"),
            ("ONDOL_MEMORY", "6G"),
            ("OLLAMA_LOAD_TIMEOUT", "90s"),
            ("OLLAMA_ORIGINS", "https://a, https://b"),
            ("OLLAMA_NOHISTORY", "1"),
            ("ONDOL_API_KEYS", "one,two"),
        ]);
        assert_eq!(both.host.name, "127.0.0.2");
        assert!(both.host_chosen);
        assert_eq!(both.keep_alive, Some(KeepAlive::For(Duration::from_secs(600))));
        assert_eq!(both.context_tokens, Some(8192));
        assert_eq!(both.memory, Some(MemoryShare::Bytes(6 << 30)));
        assert_eq!(both.load_wait, Some(Duration::from_secs(90)));
        assert_eq!(both.origins, ["https://a", "https://b"]);
        assert!(!both.history);
        assert_eq!(both.keys, ["one", "two"]);
        assert_eq!(both.client_key.as_deref(), Some("one"));
        assert_eq!(both.home, Some(PathBuf::from("/home/u/.ondol")));
    }

    #[test]
    fn packed_caches() {
        const GIB: u64 = 1 << 30;
        for (text, expected) in [
            ("on", Some(Some(64 * GIB))),
            ("OFF", Some(None)),
            ("0", Some(None)),
            ("1", Some(Some(64 * GIB))),
            ("20G", Some(Some(20 * GIB))),
            ("20 GB", Some(Some(20 * GIB))),
            ("20gib", Some(Some(20 * GIB))),
            ("512M", Some(Some(GIB / 2))),
            ("2t", Some(Some(2048 * GIB))),
            ("20", None),
            ("G", None),
            ("-1G", None),
            ("20GG", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse_packed_cache(text), expected, "{text}");
        }
        assert_eq!(settings(&[]).packed_bytes_max, Some(64 * GIB));
        assert_eq!(settings(&[("ONDOL_PACKED_CACHE", "off")]).packed_bytes_max, None);
        let flagged = Global { packed_cache: Some("1G".to_owned()), ..Global::default() };
        let both = read(&flagged, &[("ONDOL_PACKED_CACHE", "off")]).expect("settings");
        assert_eq!(both.packed_bytes_max, Some(GIB), "the flag goes first");
        // What is asked is only kept for those who say so.
        assert_eq!(settings(&[]).kv_spill_bytes_max, None);
        assert_eq!(settings(&[("ONDOL_KV_SPILL", "off")]).kv_spill_bytes_max, None);
        assert_eq!(settings(&[("ONDOL_KV_SPILL", "2G")]).kv_spill_bytes_max, Some(2 * GIB));
    }

    #[test]
    fn types_of_keys_and_values() {
        assert_eq!(settings(&[]).kv_type, KvType::F16);
        assert_eq!(settings(&[("OLLAMA_KV_CACHE_TYPE", "q8_0")]).kv_type, KvType::Q8_0);
        let both = [("ONDOL_KV_TYPE", "q4_0"), ("OLLAMA_KV_CACHE_TYPE", "q8_0")];
        assert_eq!(settings(&both).kv_type, KvType::Q4_0);
        let flagged = Global { kv_type: Some("F16".to_owned()), ..Global::default() };
        assert_eq!(read(&flagged, &both).expect("settings").kv_type, KvType::F16, "the flag goes first");
    }

    #[test]
    fn how_vectors_are_computed() {
        let check = |value, expected| {
            assert_eq!(settings(&[("ONDOL_ENCODER_PRODUCTS", value)]).encoder_products, expected);
        };
        check("", Products::AsStored);
        check("stored", Products::AsStored);
        check("F32", Products::Exact);
        check("bf16", Products::Rounded);
        let error = read(&Global::default(), &[("ONDOL_ENCODER_PRODUCTS", "f8")]).expect_err("no such");
        let text = error.to_string();
        assert!(text.contains("ONDOL_ENCODER_PRODUCTS") && text.contains("bf16"), "{text}");
    }

    #[test]
    fn where_models_are() {
        let root = |global: &Global, variables: &[(&str, &str)]| {
            read(global, variables).and_then(|settings| settings.store_root()).ok()
        };
        let flagged = Global { models: Some("/flag".into()), ..Global::default() };
        let none = Global::default();
        let all = [("HOME", "/h"), ("ONDOL_HOME", "/o"), ("ONDOL_MODELS", "/m")];
        assert_eq!(root(&flagged, &all), Some("/flag".into()));
        assert_eq!(root(&none, &all), Some("/m".into()));
        assert_eq!(root(&none, &all[..2]), Some("/o".into()));
        assert_eq!(root(&none, &all[..1]), Some("/h/.ondol".into()));
        assert_eq!(root(&none, &[]), None);
    }

    #[test]
    fn languages_by_flag_variable_and_locale() {
        let language = |flag, variables: &[(&str, &str)]| {
            let map = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Environment(map).language(flag)
        };
        assert_eq!(language(None, &[]), Language::English);
        assert_eq!(language(None, &[("LANG", "ko_KR.UTF-8")]), Language::Korean);
        assert_eq!(language(None, &[("LC_ALL", "C"), ("LANG", "ko_KR.UTF-8")]), Language::English);
        assert_eq!(language(None, &[("LC_ALL", ""), ("LANG", "ko_KR.UTF-8")]), Language::Korean);
        assert_eq!(language(None, &[("ONDOL_LANG", "en"), ("LANG", "ko_KR.UTF-8")]), Language::English);
        assert_eq!(language(Some("ko"), &[("ONDOL_LANG", "en")]), Language::Korean);
    }

    #[test]
    fn values_that_cannot_be_meant_are_named() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            let failure = read(&Global::default(), variables).expect_err("an error");
            assert_eq!(failure.to_string(), expected);
        };
        check(
            &[("OLLAMA_KEEP_ALIVE", "soon")],
            "OLLAMA_KEEP_ALIVE: 'soon' is not a duration (say 5m, 300 or -1)",
        );
        check(
            &[("ONDOL_PACKED_CACHE", "lots")],
            "ONDOL_PACKED_CACHE: 'lots' is not on, off or a size (say 20G)",
        );
        check(&[("ONDOL_MEMORY", "lots")], "ONDOL_MEMORY: 'lots' is not a size or share (say 12G or 60%)");
        check(
            &[("OLLAMA_KV_CACHE_TYPE", "q3_1")],
            "OLLAMA_KV_CACHE_TYPE: 'q3_1' is not f16, q8_0, q4_0 or f32",
        );
        check(&[("ONDOL_HOST", "a b")], "ONDOL_HOST: 'a b' is not an address (say 127.0.0.1:11434)");
        check(&[("OLLAMA_CONTEXT_LENGTH", "-4")], "OLLAMA_CONTEXT_LENGTH: '-4' is not a whole number");
        check(
            &[("OLLAMA_CONTEXT_LENGTH", "많이"), ("LANG", "ko_KR.UTF-8")],
            "OLLAMA_CONTEXT_LENGTH: '많이'는 정수가 아닙니다",
        );
    }

    #[test]
    fn log_filters() {
        for (ours, ollamas, expected) in [
            (None, None, "warn"),
            (None, Some("1"), "debug"),
            (None, Some("2"), "trace"),
            (None, Some("0"), "warn"),
            (Some("ondol=info"), Some("2"), "ondol=info"),
        ] {
            assert_eq!(log_filter(ours, ollamas), expected);
        }
    }
}
