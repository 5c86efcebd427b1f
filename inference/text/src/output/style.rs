//! Which format a model's answers have, read off its chat template: the marks that the template writes are those that
//! the model was trained to write. The rows name the marks as the templates of the families do (llama.cpp's collection,
//! `llama-cpp-python` 0.3.36; EXAONE's, Phi's and Granite's cards).

use super::section::Opening;

/// The marks around thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinkingTags {
    pub open: &'static str,
    pub close: &'static str,
}

/// How a family writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5 and 3, EXAONE 3.5 and 4, Granite 4, and
    /// whoever is shown the built-in prompt.
    Hermes,
    /// `<tool_call><function=f><parameter=x>…`: Qwen3-Coder, Qwen 3.5, Nemotron 3.
    QwenTags,
    /// `<tool_call>f<arg_key>x</arg_key><arg_value>…`: GLM.
    Glm,
    /// `{"name": …, "parameters": …}`, bare or behind `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{…}]`: Mistral up to Nemo and Small 3.1.
    MistralList,
    /// `[TOOL_CALLS]f[ARGS]{…}`: Mistral since.
    MistralArgs,
    /// `[TOOL_CALLS]f[CALL_ID]…[ARGS]{…}`: Mistral Small 3.2.
    MistralIds,
    /// A fence of `tool_code`: Gemma 2 and 3, by our prompt.
    Gemma,
    /// Channels: gpt-oss.
    Harmony,
    /// `<｜tool▁calls▁begin｜>…function<｜tool▁sep｜>f` and a fence: DeepSeek V3, R1.
    DeepSeek,
    /// The same without the fence: DeepSeek V3.1.
    DeepSeek31,
    /// `<｜DSML｜function_calls>`: DeepSeek V3.2 and V4.
    DeepSeekTags,
    /// `<minimax:tool_call>`: MiniMax M2.
    MiniMax,
    /// `<|tool_calls_section_begin|>`: Kimi K2.
    Kimi,
    /// `<|tool_call_start|>[f(x=1)]<|tool_call_end|>`: LFM2.
    Lfm,
    /// `<|tool_call|>[{…}]`: Granite 3, Phi-4 mini.
    Granite,
    /// `<|START_ACTION|>[{…}]<|END_ACTION|>`: Command R7B and A.
    Command,
    /// `<TOOLCALL>[{…}]</TOOLCALL>`: Nemotron Nano 2.
    Nemotron,
    /// `<function=f>{…}</function>`: Functionary 3.1.
    Functionary,
    /// Qwen's tags between `<seed:tool_call>`: Seed-OSS.
    Seed,
    /// `<tool_calls>[{…}]</tool_calls>`: Apriel.
    Apriel,
    /// `<|tool_call>call:f{x:<|"|>…<|"|>}<tool_call|>`: Gemma 4.
    Gemma4,
}

/// The format of a model's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    pub family: Family,
    pub thinking: Option<ThinkingTags>,
}

/// Tags around thoughts, and what of them a template that knows them mentions.
const THINKING: [(ThinkingTags, &str); 6] = [
    (ThinkingTags { open: "<think>", close: "</think>" }, "</think>"),
    (ThinkingTags { open: "<thought>", close: "</thought>" }, "</thought>"),
    (ThinkingTags { open: "[THINK]", close: "[/THINK]" }, "[THINK]"),
    (ThinkingTags { open: "<|START_THINKING|>", close: "<|END_THINKING|>" }, "<|START_THINKING|>"),
    (ThinkingTags { open: "<seed:think>", close: "</seed:think>" }, "seed:think"),
    (ThinkingTags { open: "<|channel>thought", close: "<channel|>" }, "<|channel>thought"),
];

/// What a template must mention, all of it, to be of a family; the first that fits is taken.
const FAMILIES: [(Family, &[&str]); 23] = [
    (Family::Harmony, &["<|channel|>", "<|start|>", "functions."]),
    (Family::MistralIds, &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"]),
    (Family::MistralArgs, &["[TOOL_CALLS]", "[ARGS]"]),
    (Family::MistralList, &["[TOOL_CALLS]"]),
    (Family::DeepSeek, &["<｜tool▁calls▁begin｜>", "```json"]),
    (Family::DeepSeek31, &["<｜tool▁calls▁begin｜>"]),
    (Family::DeepSeekTags, &["｜DSML｜"]),
    (Family::Apriel, &["<tool_calls>"]),
    (Family::QwenTags, &["<tool_call>", "<function="]),
    (Family::Glm, &["<tool_call>", "<arg_key>"]),
    (Family::MiniMax, &["<minimax:tool_call>"]),
    (Family::Seed, &["<seed:tool_call>"]),
    (Family::Gemma4, &["<|tool_call>", "<tool_call|>"]),
    (Family::Hermes, &["<tool_call>"]),
    (Family::Kimi, &["<|tool_calls_section_begin|>"]),
    (Family::Lfm, &["<|tool_call_start|>"]),
    (Family::Lfm, &["<|tool_list_start|>"]),
    (Family::Granite, &["<|tool_call|>"]),
    (Family::Command, &["<|START_ACTION|>"]),
    (Family::Nemotron, &["<TOOLCALL>"]),
    (Family::Functionary, &["<function="]),
    (Family::Llama, &["<|start_header_id|>", "parameters"]),
    (Family::Gemma, &["<start_of_turn>"]),
];

impl Style {
    /// The style of a chat template. `tools`: it has a place for tools or calls; without, a family's marks are those of
    /// something else, and the built-in prompt asks for the commonest form.
    #[must_use]
    pub fn recognise(template: &str, tools: bool) -> Self {
        let has = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
        let family = FAMILIES.iter().find(|(_, marks)| has(marks)).map(|(family, _)| *family);
        let family = match family {
            Some(family @ (Family::Harmony | Family::Gemma)) => family,
            Some(family) if tools => family,
            _ => Family::Hermes,
        };
        let thinking = THINKING.iter().find(|(_, mark)| template.contains(mark)).map(|(tags, _)| *tags);
        Self { family, thinking }
    }

    /// The style of a model without a template.
    #[must_use]
    pub fn plain() -> Self {
        Self { family: Family::Hermes, thinking: None }
    }

    /// All marks that may stand in an answer. Those that are control tokens must reach the parser as text.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        let thinking = self.thinking.into_iter().flat_map(|tags| [tags.open, tags.close]);
        let openings = self.family.openings().iter();
        let calls =
            openings.flat_map(|opening| std::iter::once(opening.mark).chain(opening.close.iter().copied()));
        thinking.chain(calls).chain(self.family.inner_marks().iter().copied()).filter(|mark| !mark.is_empty())
    }
}

const TAG: Opening = Opening { mark: "<tool_call>", close: &["</tool_call>"], part: false };
const FUNCTION: Opening = Opening { mark: "<function=", close: &[], part: true };
const MISTRAL: Opening = Opening { mark: "[TOOL_CALLS]", close: &[], part: false };
const DEEPSEEK: Opening =
    Opening { mark: "<｜tool▁calls▁begin｜>", close: &["<｜tool▁calls▁end｜>"], part: false };
pub(super) const BARE: Opening = Opening { mark: "", close: &[], part: false };

impl Family {
    /// Every family.
    pub const ALL: [Self; 22] = [
        Self::Hermes,
        Self::QwenTags,
        Self::Glm,
        Self::Llama,
        Self::MistralList,
        Self::MistralArgs,
        Self::MistralIds,
        Self::Gemma,
        Self::Harmony,
        Self::DeepSeek,
        Self::DeepSeek31,
        Self::DeepSeekTags,
        Self::MiniMax,
        Self::Kimi,
        Self::Lfm,
        Self::Granite,
        Self::Command,
        Self::Nemotron,
        Self::Functionary,
        Self::Seed,
        Self::Apriel,
        Self::Gemma4,
    ];

    /// Where its calls begin.
    pub(super) fn openings(self) -> &'static [Opening] {
        const HERMES: &[Opening] = &[TAG];
        const QWEN: &[Opening] = &[TAG, FUNCTION];
        const LLAMA: &[Opening] = &[Opening { mark: "<|python_tag|>", close: &[], part: false }, TAG];
        const GEMMA: &[Opening] = &[
            Opening { mark: "```tool_code", close: &["```"], part: false },
            Opening { mark: "```json", close: &["```"], part: false },
            TAG,
        ];
        const DSML: &[Opening] = &[
            Opening {
                mark: "<｜DSML｜function_calls>", close: &["</｜DSML｜function_calls>"], part: false
            },
            Opening { mark: "<｜DSML｜tool_calls>", close: &["</｜DSML｜tool_calls>"], part: false },
        ];
        const MINIMAX: &[Opening] =
            &[Opening { mark: "<minimax:tool_call>", close: &["</minimax:tool_call>"], part: false }];
        const KIMI: &[Opening] = &[
            Opening {
                mark: "<|tool_calls_section_begin|>",
                close: &["<|tool_calls_section_end|>"],
                part: false,
            },
            Opening { mark: "<|tool_call_begin|>", close: &[], part: true },
        ];
        const SEED: &[Opening] =
            &[Opening { mark: "<seed:tool_call>", close: &["</seed:tool_call>"], part: false }];
        const APRIEL: &[Opening] =
            &[Opening { mark: "<tool_calls>", close: &["</tool_calls>"], part: false }];
        const GEMMA4: &[Opening] = &[Opening { mark: "<|tool_call>", close: &["<tool_call|>"], part: false }];
        const LFM: &[Opening] =
            &[Opening { mark: "<|tool_call_start|>", close: &["<|tool_call_end|>"], part: false }];
        const GRANITE: &[Opening] =
            &[Opening { mark: "<|tool_call|>", close: &["<|/tool_call|>"], part: false }, TAG];
        const COMMAND: &[Opening] =
            &[Opening { mark: "<|START_ACTION|>", close: &["<|END_ACTION|>"], part: false }];
        const NEMOTRON: &[Opening] = &[Opening { mark: "<TOOLCALL>", close: &["</TOOLCALL>"], part: false }];
        match self {
            Self::Hermes | Self::Glm => HERMES,
            Self::QwenTags | Self::Functionary => QWEN,
            Self::Llama => LLAMA,
            Self::MistralList | Self::MistralArgs | Self::MistralIds => &[MISTRAL],
            Self::Gemma => GEMMA,
            Self::Harmony => &[],
            Self::DeepSeek | Self::DeepSeek31 => &[DEEPSEEK],
            Self::DeepSeekTags => DSML,
            Self::MiniMax => MINIMAX,
            Self::Kimi => KIMI,
            Self::Lfm => LFM,
            Self::Granite => GRANITE,
            Self::Command => COMMAND,
            Self::Nemotron => NEMOTRON,
            Self::Seed => SEED,
            Self::Apriel => APRIEL,
            Self::Gemma4 => GEMMA4,
        }
    }

    /// Whether calls may stand bare at the beginning of an answer.
    pub(super) fn bare(self) -> bool {
        matches!(self, Self::Llama | Self::Gemma | Self::Lfm | Self::Granite)
    }

    /// Marks around the text for the reader, which are not for the reader.
    pub(super) fn silent_marks(self) -> &'static [&'static str] {
        match self {
            Self::Command => &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
            _ => &[],
        }
    }

    /// Marks inside calls, and of messages.
    fn inner_marks(self) -> &'static [&'static str] {
        match self {
            Self::Harmony => &[
                "<|channel|>",
                "<|message|>",
                "<|start|>",
                "<|end|>",
                "<|constrain|>",
                "<|call|>",
                "<|return|>",
            ],
            Self::MistralArgs | Self::MistralIds | Self::MistralList => &["[ARGS]", "[CALL_ID]"],
            Self::DeepSeek | Self::DeepSeek31 => {
                &["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"]
            }
            Self::Kimi => &["<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"],
            Self::DeepSeekTags => &["｜DSML｜"],
            Self::Glm => &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
            Self::Gemma4 => &["<|\"|>"],
            Self::Command => self.silent_marks(),
            _ => &[],
        }
    }
}
