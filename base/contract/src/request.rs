//! What a client asks of a model, whichever dialect it spoke. A field that is `None` was not said: the model's own
//! defaults, then the engine's, fill it in (`engine` resolves them), so that no dialect invents a value.

use std::time::Duration;

/// One request to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model as the client named it, for example `gemma3:270m`. The registry resolves it.
    pub model: String,
    pub input: Input,
    pub sampling: Sampling,
    pub limits: Limits,
    /// The answer ends before the first of these strings; the string itself is not part of it.
    pub stop: Vec<String>,
    /// The answer ends before the first of these tokens, as it does before the model's own end tokens.
    pub stop_tokens: Vec<u32>,
    /// The answer begins with the prompt itself; with `logprobs`, also with those of the prompt's tokens. Only for
    /// [`Input::Text`] and [`Input::Tokens`].
    pub echo: bool,
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// `Some(n)`: report each token's log-probability and its `n` likeliest alternatives (0 to 20).
    pub logprobs: Option<u8>,
    /// A promised shape of the answer. It is enforced or the request fails, never ignored.
    pub format: Option<Format>,
    /// Who asks, for fairness between users and so that nobody's prompts speed up another's. `None`: nobody in
    /// particular, all such requests together.
    pub tenant: Option<String>,
    pub priority: Priority,
    /// Whether the tools of a chat may or must be called.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    pub thinking: Thinking,
    /// More variables for the chat template (vLLM's `chat_template_kwargs`). They cannot replace the conversation's
    /// own.
    pub template_variables: serde_json::Map<String, serde_json::Value>,
}

impl Request {
    /// A request with nothing said but the model and its input.
    #[must_use]
    pub fn new(model: impl Into<String>, input: Input) -> Self {
        Self {
            model: model.into(),
            input,
            sampling: Sampling::default(),
            limits: Limits::default(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            echo: false,
            keep_alive: None,
            logprobs: None,
            format: None,
            tenant: None,
            priority: Priority::Interactive,
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            thinking: Thinking::default(),
            template_variables: serde_json::Map::new(),
        }
    }
}

/// Which requests go first when not all can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does: such work takes what is left, and gives way, but never waits for ever.
    Batch,
}

/// What the model is to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A conversation, rendered by the model's chat template with a generation prompt at its end.
    Chat {
        messages: Vec<Message>,
        /// Tool definitions as the client sent them (JSON Schema objects), passed to the template.
        tools: Vec<serde_json::Value>,
    },
    /// One instruction (Ollama's generate): the chat template around one user message, after the tokens of earlier
    /// turns in `context`. Models without a template get the prompt as it is.
    Prompt { prompt: String, system: Option<String>, context: Vec<u32> },
    /// Text continued exactly as it is; only the tokens that the tokenizer itself adds (BOS) stand before it.
    Text(String),
    /// Token ids continued exactly as they are.
    Tokens(Vec<u32>),
    /// Nothing: load the model and answer when it is ready.
    Load,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The name that chat templates and all dialects use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub role: Role,
    pub content: String,
    /// What the model thought before it answered, kept apart from the answer.
    pub thinking: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    /// For [`Role::Tool`]: the tool whose result this is.
    pub tool_name: Option<String>,
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A plain text message.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            thinking: None,
            tool_calls: Vec::new(),
            tool_name: None,
            tool_call_id: None,
        }
    }
}

/// A call of a tool, as the model made it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: Option<String>,
    pub name: String,
    /// A JSON object.
    pub arguments: serde_json::Value,
}

/// Whether tools may or must be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No call: the model is not shown the tools.
    None,
    /// At least one call, whichever the tool.
    Required,
    /// A call of this tool.
    Named(String),
}

/// What is asked of a model that can think before it answers. Nothing said: its own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thinking {
    /// On or off, for models whose template can be told.
    pub enabled: Option<bool>,
    /// `low`, `medium`, `high` and the like, for models whose template can be told.
    pub effort: Option<String>,
    /// Most tokens of thoughts; then the thoughts are closed, and the answer follows.
    pub budget_tokens: Option<u32>,
}

/// How the next token is chosen. `None`, or an empty list, means not said. What each option does, in which order and
/// with which defaults: `docs/reference/sampling.md`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// How far the temperature follows the entropy to both sides; 0 is off.
    pub dynamic_temperature_range: Option<f32>,
    /// How the entropy is bent before it chooses the temperature; 1 is not at all.
    pub dynamic_temperature_exponent: Option<f32>,
    /// 0 is off.
    pub top_k: Option<u32>,
    /// 1 is off.
    pub top_p: Option<f32>,
    /// 0 is off.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub typical_p: Option<f32>,
    /// Tail-free sampling's z; 1 is off.
    pub tail_free_z: Option<f32>,
    /// Standard deviations of the logits below the best; 0 or less is off.
    pub top_n_sigma: Option<f32>,
    /// Tokens that every cut leaves at least.
    pub min_keep: Option<u32>,
    /// How often the likeliest tokens are left out; 0 is off.
    pub xtc_probability: Option<f32>,
    /// From which probability on a token counts as one of the likeliest; above 0.5 is off.
    pub xtc_threshold: Option<f32>,
    /// 1 is off.
    pub repeat_penalty: Option<f32>,
    /// Over how many past tokens the penalties look: 0 none, -1 the whole context.
    pub repeat_last_n: Option<i32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    /// `false`: line breaks keep their logit whatever the penalties say.
    pub penalise_newline: Option<bool>,
    /// DRY: what a repetition that goes on costs; 0 is off.
    pub dry_multiplier: Option<f32>,
    /// DRY: by what the cost grows with every token of the repetition.
    pub dry_base: Option<f32>,
    /// DRY: repetitions up to this length cost nothing.
    pub dry_allowed_length: Option<u32>,
    /// DRY: over how many past tokens it looks: 0 none, -1 the whole context.
    pub dry_penalty_last_n: Option<i32>,
    /// DRY: texts across which nothing counts as repeated.
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// 0 is off; 1 and 2 are its versions, which take the place of the cuts.
    pub mirostat: Option<u8>,
    /// The surprise aimed at, in bits.
    pub mirostat_tau: Option<f32>,
    /// How fast it corrects itself.
    pub mirostat_eta: Option<f32>,
    /// Adaptive-p: the probability aimed at; negative is off.
    pub adaptive_target: Option<f32>,
    /// Adaptive-p: how long it remembers, 0 to 0.99.
    pub adaptive_decay: Option<f32>,
    /// Which samplers are used, in this order, instead of the default order.
    pub samplers: Option<Vec<SamplerKind>>,
    /// Added to the logits before everything else.
    pub logit_bias: Vec<LogitBias>,
    /// Texts that the answer must not contain.
    pub bad_words: Vec<String>,
    /// The answer does not end by itself, nor by a stop token or stop string, before it has this many tokens.
    pub min_tokens: Option<u32>,
    /// The model cannot end the answer: tokens that would end it are never chosen.
    pub ignore_eos: Option<bool>,
    /// Same seed, same prompt, same options: same answer. `None`: a fresh one each time.
    pub seed: Option<u64>,
}

/// A step between logits and the draw that a request may leave out or move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// Repetition, presence and frequency.
    Penalties,
    Dry,
    TopNSigma,
    TopK,
    TailFree,
    Typical,
    TopP,
    MinP,
    Xtc,
    Temperature,
    /// Draws in place of the plain draw, wherever it stands.
    AdaptiveP,
}

/// What is added to the logits of some tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitBias {
    pub target: BiasTarget,
    /// `-inf`: never.
    pub bias: f32,
}

/// The tokens that a bias is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BiasTarget {
    Token(u32),
    /// Each token that this text is made of.
    Text(String),
}

/// Bounds of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Most tokens to generate. `None`: up to the context limit.
    pub new_tokens_max: Option<u32>,
    /// Size of the context (prompt and answer together) in tokens.
    pub context_tokens: Option<u32>,
    /// Whether a conversation that does not fit may lose its oldest turns (Ollama's `truncate`, which it announces
    /// as on by default). `false`: such a request is an error.
    pub truncate: bool,
}

/// How long a model stays in memory after its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    For(Duration),
    Forever,
}

/// A promised shape of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object.
    Json,
    /// JSON that satisfies this schema.
    JsonSchema(serde_json::Value),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Text of this grammar, in llama.cpp's GBNF.
    Gbnf(String),
    /// Text of this grammar, in the Lark of `llguidance`.
    Lark(String),
}
