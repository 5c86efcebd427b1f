//! The command line: every command and every flag, once. Names follow `ollama`, so that habits carry over; ours are
//! added beside them. Says what was asked and reads nothing else: defaults and environment are `settings`' work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{compare, convert, embed, eval, fit, imatrix, quantize, search};
use crate::terminal::help;
use crate::terminal::messages::{Language, Message, say};

/// Runs language models on your own machine
#[derive(Debug, Parser)]
#[command(name = "ondol", version, disable_help_subcommand = false, infer_subcommands = false)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand before or after any command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Language of the messages: ko or en
    #[arg(long, global = true, value_name = "LANGUAGE")]
    pub lang: Option<String>,
    /// Where models are kept (default: ~/.ondol)
    #[arg(long, global = true, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Never use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Keep packed weights for the next start: on, off, or at most so much (say 20G)
    #[arg(long, global = true, value_name = "SIZE")]
    pub packed_cache: Option<String>,
    /// How keys and values of past tokens are kept: f16, q8_0, q4_0 or f32
    #[arg(long, global = true, value_name = "TYPE")]
    pub kv_type: Option<String>,
    /// Quantise models in F32, F16 or BF16 while they are loaded, for example to q4_k_m
    #[arg(long, global = true, value_name = "TYPE")]
    pub quant: Option<String>,
    /// Read prompts faster, with weights rounded once more
    #[arg(long, global = true)]
    pub fast_prefill: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a model: answer a prompt, or talk
    Run(RunFlags),
    /// Fetch a model into the store
    Pull(PullFlags),
    /// List the models in the store
    #[command(visible_alias = "ls")]
    List(ListFlags),
    /// Find models in the catalogue
    Search(search::Arguments),
    /// Show what is known of a model
    Show(ShowFlags),
    /// Delete models from the store
    Rm(RmFlags),
    /// Give a model a second name
    Cp(CpFlags),
    /// List the models that a server has in memory
    Ps,
    /// Take a model out of a server's memory
    Stop(StopFlags),
    /// Serve the Ollama and OpenAI APIs
    #[command(visible_alias = "start")]
    Serve(ServeFlags),
    /// Measure how fast a model is here
    Bench(BenchFlags),
    /// Show, fill, check or empty the cache of packed weights
    Cache(CacheFlags),
    /// Tell which models fit this machine, and how fast they will be
    Fit(fit::Arguments),
    /// Ask several models the same, side by side
    Compare(compare::Arguments),
    /// Turn texts into vectors, a line of JSON each
    Embed(embed::EmbedFlags),
    /// Measure how well a model predicts
    Eval(eval::Arguments),
    /// Write a folder with safetensors as a GGUF file
    Convert(convert::ConvertFlags),
    /// Write a model in fewer bits
    Quantize(quantize::QuantizeFlags),
    /// Measure on a text what errors in a model's weights count, for `quantize`
    Imatrix(imatrix::ImatrixFlags),
    /// Print a completion script for a shell
    Completions(CompletionsFlags),
}

#[derive(Debug, Args)]
pub(crate) struct RunFlags {
    /// A model's name, or a path to a .gguf file or a folder with safetensors
    pub model: String,
    /// The prompt; without one, an interactive session starts
    pub prompt: Vec<String>,
    /// Show timings after each answer
    #[arg(long)]
    pub verbose: bool,
    /// How long the model stays in memory (5m, 300, -1)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub keepalive: Option<String>,
    /// Shape of the answer: json, or a JSON schema
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Do not wrap lines at words
    #[arg(long)]
    pub nowordwrap: bool,
    /// Think before answering: true, false, low, medium, high
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub think: Option<String>,
    /// Answer without thinking, as --think=false
    #[arg(long, conflicts_with = "think")]
    pub no_think: bool,
    /// Do not show the thinking part
    #[arg(long)]
    pub hidethinking: bool,
    /// Talk even when standard input is not a terminal
    #[arg(long, short = 'i', conflicts_with = "prompt")]
    pub interactive: bool,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    /// Context size in tokens
    #[arg(long, visible_alias = "num-ctx", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// A smaller model of the same vocabulary that guesses ahead; the answer stays the same
    #[arg(long, visible_alias = "model-draft", value_name = "MODEL")]
    pub draft_model: Option<String>,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SamplingFlags {
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, value_name = "NUMBER")]
    pub temperature: Option<f32>,
    /// The same as --temperature 0
    #[arg(long, conflicts_with = "temperature")]
    pub greedy: bool,
    /// Choose among the K likeliest tokens; 0 is off
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Choose among the tokens that make up this share of probability
    #[arg(long, value_name = "SHARE")]
    pub top_p: Option<f32>,
    /// Leave out tokens below this share of the likeliest one
    #[arg(long, value_name = "SHARE")]
    pub min_p: Option<f32>,
    /// Penalty for repeated tokens; 1 is off
    #[arg(long, value_name = "FACTOR")]
    pub repeat_penalty: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Most tokens to generate; -1 is no limit
    #[arg(long, short = 'n', visible_alias = "n-predict", value_name = "TOKENS", allow_hyphen_values = true)]
    pub num_predict: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct PullFlags {
    /// The model to fetch
    pub model: String,
    /// Accept registries without TLS
    #[arg(long)]
    pub insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// Only models whose name starts so
    pub prefix: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowFlags {
    /// The model to show: its name, or a path
    pub model: String,
    /// Show its license
    #[arg(long, group = "part")]
    pub license: bool,
    /// Show its Modelfile
    #[arg(long, group = "part")]
    pub modelfile: bool,
    /// Show its parameters
    #[arg(long, group = "part")]
    pub parameters: bool,
    /// Show its system message
    #[arg(long, group = "part")]
    pub system: bool,
    /// Show its prompt template
    #[arg(long, group = "part")]
    pub template: bool,
    /// Also show all metadata and tensors
    #[arg(long, short = 'v')]
    pub verbose: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "part")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmFlags {
    /// The models to delete
    #[arg(required = true, value_name = "MODEL")]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CpFlags {
    /// The model to copy, or a .gguf file or a folder with safetensors, which stays where it is
    pub source: String,
    /// Its second name
    pub destination: String,
}

#[derive(Debug, Args)]
pub(crate) struct StopFlags {
    /// The model to take out of memory
    pub model: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServeFlags {
    /// Address to listen on (default: 127.0.0.1:11434)
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// A smaller model that guesses ahead: for every model that it fits, or MODEL=DRAFT for one
    #[arg(long, visible_alias = "model-draft", value_name = "MODEL")]
    pub draft_model: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchFlags {
    /// A model's name, or a path to a .gguf file or a folder with safetensors
    pub model: String,
    /// Tokens of the prompts to read
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    pub prefill: Vec<usize>,
    /// Tokens to generate; 0 is none
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub decode: usize,
    /// Tokens before those that are generated
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    pub context: Vec<usize>,
    /// Sequences to generate at once
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: Vec<u16>,
    /// Times that each is run; the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: u16,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Instruction set to use, instead of the best
    #[arg(long, value_name = "NAME")]
    pub kernels: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheFlags {
    /// Pack the weights of these models now
    #[arg(long, value_name = "MODEL", num_args = 1.., group = "work")]
    pub fill: Vec<String>,
    /// Read all of it, and remove what is damaged
    #[arg(long, group = "work")]
    pub verify: bool,
    /// Remove all of it
    #[arg(long, group = "work")]
    pub clear: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsFlags {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Why there are no flags to act on.
#[derive(Debug)]
pub(crate) enum NotParsed {
    /// Help or the version was asked for: text for standard output.
    Information(String),
    /// The command line is wrong: one line for standard error.
    Wrong(String),
}

impl Flags {
    /// Parses a command line, program name first.
    pub(crate) fn parse_in(
        language: Language,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, NotParsed> {
        let mut command = command(language);
        let parsed = command.try_get_matches_from_mut(arguments).and_then(|m| Self::from_arg_matches(&m));
        parsed.map_err(|error| describe(language, &error))
    }
}

/// The whole command tree, its help in the user's language.
pub(crate) fn command(language: Language) -> clap::Command {
    help::localise(Flags::command(), language)
}

/// The value of `--lang`, found before the command line is parsed, because parsing itself has things to say.
pub(crate) fn language_flag(arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--lang") {
            Some("") => return arguments.next().map(str::to_owned),
            Some(value) if value.starts_with('=') => return Some(value[1..].to_owned()),
            _ if argument == "--" => return None,
            _ => {}
        }
    }
    None
}

/// One line for what clap says in a paragraph.
fn describe(language: Language, error: &clap::Error) -> NotParsed {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return NotParsed::Information(error.render().to_string());
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    };
    let (argument, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let usage = context(ContextKind::Usage);
    let command = command_path(&usage);
    let message = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => Message::FlagUnknown,
        ErrorKind::UnknownArgument => Message::ArgumentUnexpected,
        ErrorKind::InvalidSubcommand => Message::CommandUnknown,
        ErrorKind::InvalidValue if value.is_empty() => Message::FlagValueMissing,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Message::FlagValueInvalid,
        ErrorKind::ArgumentConflict if argument == context(ContextKind::PriorArg) => Message::FlagRepeated,
        ErrorKind::ArgumentConflict => Message::FlagConflict,
        ErrorKind::MissingRequiredArgument => Message::ArgumentMissing,
        _ => return NotParsed::Wrong(first_line(&error.render().to_string())),
    };
    let cause = match context(ContextKind::ValidValue) {
        valid if valid.is_empty() => {
            std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
        }
        valid => valid,
    };
    NotParsed::Wrong(say(
        language,
        message,
        &[
            ("flag", argument.split(' ').next().unwrap_or_default()),
            ("value", if value.is_empty() { &argument } else { &value }),
            ("name", &context(ContextKind::InvalidSubcommand)),
            ("arguments", &argument),
            ("other", context(ContextKind::PriorArg).split(' ').next().unwrap_or_default()),
            ("command", &command),
            ("cause", &cause),
        ],
    ))
}

/// `ondol run` out of `Usage: ondol run [OPTIONS] …`, whatever the word before it.
fn command_path(usage: &str) -> String {
    let words = usage.split_whitespace().skip_while(|word| *word != "ondol");
    let path: Vec<&str> = words.take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
    if path.is_empty() { "ondol".to_owned() } else { path.join(" ") }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, NotParsed> {
        parse_in(Language::English, line)
    }

    fn parse_in(language: Language, line: &str) -> Result<Flags, NotParsed> {
        Flags::parse_in(language, line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_tree_is_well_formed() {
        for language in [Language::English, Language::Korean] {
            command(language).debug_assert();
        }
    }

    #[test]
    fn no_command_takes_the_name_of_a_global_flag() {
        // clap mixes up arguments of one id, and only when the command line is used.
        let root = command(Language::English);
        let global: Vec<_> = root.get_arguments().filter(|argument| argument.is_global_set()).collect();
        assert_eq!(global.len(), 7);
        for command in root.get_subcommands() {
            for argument in command.get_arguments() {
                assert!(
                    global.iter().all(|flag| flag.get_id() != argument.get_id()),
                    "{}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn run_as_users_of_ollama_type_it() {
        let flags =
            parse("ondol run gemma3:270m why is the sky --verbose blue -n 8 --keepalive -1").expect("parses");
        let Command::Run(run) = flags.command else { panic!("not run") };
        assert_eq!(run.model, "gemma3:270m");
        assert_eq!(run.prompt, ["why", "is", "the", "sky", "blue"]);
        assert!(run.verbose);
        assert_eq!(run.sampling.num_predict, Some(8));
        assert_eq!(run.keepalive.as_deref(), Some("-1"));
    }

    #[test]
    fn think_takes_a_level_or_nothing() {
        for (line, expected) in [
            ("ondol run m hi", None),
            ("ondol run m --think hi", Some("true")),
            ("ondol run m --think=low hi", Some("low")),
            ("ondol run m --no-think hi", None),
        ] {
            let Command::Run(run) = parse(line).expect("parses").command else { panic!("not run") };
            assert_eq!(run.think.as_deref(), expected);
            assert_eq!(run.no_think, line.contains("--no-think"));
            assert_eq!(run.prompt, ["hi"]);
        }
        assert!(parse("ondol run m --think --no-think hi").is_err());
    }

    #[test]
    fn global_flags_stand_anywhere() {
        for line in ["ondol --models /m --lang ko list", "ondol list --models /m --lang ko"] {
            let flags = parse(line).expect("parses");
            assert_eq!(flags.global.models, Some(PathBuf::from("/m")));
            assert_eq!(flags.global.lang.as_deref(), Some("ko"));
        }
    }

    #[test]
    fn wrong_lines_are_said_in_one() {
        let check = |line: &str, english: &str, korean: &str| {
            for (language, expected) in [(Language::English, english), (Language::Korean, korean)] {
                match parse_in(language, line) {
                    Err(NotParsed::Wrong(text)) => assert_eq!(text, expected, "{line}"),
                    other => panic!("{line}: {other:?}"),
                }
            }
        };
        check(
            "ondol run m --loud",
            "unknown flag '--loud': see `ondol run --help`",
            "'--loud'는 없는 옵션입니다. `ondol run --help`를 보세요",
        );
        check(
            "ondol dance",
            "unknown command 'dance': see `ondol --help`",
            "'dance'는 없는 명령입니다. `ondol --help`를 보세요",
        );
        check(
            "ondol run m --top-k many",
            "'many' is not a value for --top-k: invalid digit found in string",
            "'many'는 --top-k의 값이 될 수 없습니다: invalid digit found in string",
        );
        check(
            "ondol cp a",
            "<DESTINATION> is missing: see `ondol cp --help`",
            "<DESTINATION>이 빠졌습니다. `ondol cp --help`를 보세요",
        );
        check(
            "ondol run m --greedy --temperature 1",
            "--greedy cannot be used together with --temperature",
            "--greedy는 --temperature와 함께 쓸 수 없습니다",
        );
        check(
            "ondol show m --seed",
            "unknown flag '--seed': see `ondol show --help`",
            "'--seed'는 없는 옵션입니다. `ondol show --help`를 보세요",
        );
        check(
            "ondol ps x",
            "'x' is one argument too many: see `ondol ps --help`",
            "인자 'x'가 남습니다. `ondol ps --help`를 보세요",
        );
        check("ondol run m --seed", "--seed needs a value", "--seed에 값이 필요합니다");
        check("ondol run m --seed 1 --seed 2", "--seed was given twice", "--seed가 두 번 나왔습니다");
    }

    #[test]
    fn the_language_is_known_before_parsing() {
        for (line, expected) in [
            ("ondol --lang ko list", Some("ko")),
            ("ondol list --lang=en", Some("en")),
            ("ondol run m -- --lang ko", None),
            ("ondol list", None),
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(language_flag(&arguments).as_deref(), expected, "{line}");
        }
    }
}
