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
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// `Some(n)`: report each token's log-probability and its `n` likeliest alternatives (0 to 20).
    pub logprobs: Option<u8>,
    /// A promised shape of the answer. It is enforced or the request fails, never ignored.
    pub format: Option<Format>,
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
            keep_alive: None,
            logprobs: None,
            format: None,
        }
    }
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

/// How the next token is chosen. `None` means not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// 0 is off.
    pub top_k: Option<u32>,
    /// 1 is off.
    pub top_p: Option<f32>,
    /// 0 is off.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub repeat_penalty: Option<f32>,
    /// Over how many past tokens the penalties look: 0 none, -1 the whole context.
    pub repeat_last_n: Option<i32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    /// Same seed, same prompt, same options: same answer. `None`: a fresh one each time.
    pub seed: Option<u64>,
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
}
