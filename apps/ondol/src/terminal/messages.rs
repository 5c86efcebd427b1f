//! Every sentence the terminal says, once, in English and Korean: one table, so that neither language can miss one.
//! `{name}` stands for a value; `{을/를}` for the particle that fits what stands before it. What goes over the wire
//! stays English and is not here: clients match on it.

use crate::terminal::korean::particle;

/// The user's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// 한국어.
    Korean,
    /// English, also for every other locale.
    English,
}

impl Language {
    /// The language of a name as people and locales write it: `ko`, `ko_KR.UTF-8`, `korean`, `en`, `C`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let stem = lower.split(['_', '-', '.', '@']).next().unwrap_or_default();
        match stem {
            "ko" | "kor" | "korean" | "한국어" => Some(Self::Korean),
            "en" | "eng" | "english" | "c" | "posix" => Some(Self::English),
            _ => None,
        }
    }
}

/// The sentence in the user's language, its values filled in.
pub(crate) fn say(language: Language, message: Message, values: &[(&str, &str)]) -> String {
    let (english, korean) = message.forms();
    fill(if language == Language::Korean { korean } else { english }, values)
}

/// Fills a template. A brace that is neither a known value nor a particle stays as it is.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let Some(close) = rest[open..].find('}').map(|at| open + at) else {
            break;
        };
        let key = &rest[open + 1..close];
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == key) {
            out.push_str(value);
        } else if let Some((after_consonant, after_vowel)) = key.split_once('/') {
            let chosen = particle(&out, after_consonant, after_vowel);
            out.push_str(&chosen);
        } else {
            out.push_str(&rest[open..=close]);
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    out
}

macro_rules! messages {
    ($($(#[$comment:meta])* $name:ident: $english:literal, $korean:literal;)+) => {
        /// What can be said.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Message { $($(#[$comment])* $name,)+ }

        impl Message {
            /// English and Korean.
            const fn forms(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($english, $korean),)+ }
            }

            /// All of them, for the tests of the table.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

messages! {
    // Spans of time.
    SpanInstant: "Less than a second", "잠시";
    SpanSecond: "1 second", "1초";
    SpanSeconds: "{count} seconds", "{count}초";
    SpanMinute: "About a minute", "1분";
    SpanMinutes: "{count} minutes", "{count}분";
    SpanHour: "About an hour", "1시간";
    SpanHours: "{count} hours", "{count}시간";
    SpanDays: "{count} days", "{count}일";
    SpanWeeks: "{count} weeks", "{count}주";
    SpanMonths: "{count} months", "{count}개월";
    SpanYears: "{count} years", "{count}년";
    TimeAgo: "{span} ago", "{span} 전";
    TimeFromNow: "{span} from now", "{span} 후";
    TimeForever: "Forever", "계속";
    TimeStopping: "Stopping...", "내리는 중...";

    // Errors: one line, what happened, to what, what to do next.
    ErrorPrefix: "error: ", "오류: ";
    ModelNotFound:
        "model '{model}' not found, try pulling it first: ondol pull {model}",
        "모델 '{model}'{을/를} 찾을 수 없습니다. 먼저 받으세요: ondol pull {model}";
    FileNotFound: "no file '{path}': check the path", "파일 '{path}'{이/가} 없습니다. 경로를 확인하세요";
    ModelCannot: "model '{model}' does not support {what}", "모델 '{model}'{은/는} {what}{을/를} 지원하지 않습니다";
    ModelLoadFailed: "cannot load model '{model}': {cause}", "모델 '{model}'{을/를} 불러올 수 없습니다: {cause}";
    OutOfMemory:
        "model '{model}' needs {needed} of memory, {free} are there for models: use a smaller model or context, or raise \
         ONDOL_MEMORY",
        "모델 '{model}'에 메모리 {needed}{이/가} 필요하지만 모델에 쓸 수 있는 것은 {free}입니다. 작은 모델이나 짧은 문맥을 쓰거나 \
         ONDOL_MEMORY를 늘리세요";
    ContextExceeded:
        "the prompt has {prompt} tokens, the context holds {context}: shorten it, or raise --ctx",
        "입력은 {prompt}토큰인데 문맥에는 {context}토큰만 들어갑니다. 입력을 줄이거나 --ctx를 늘리세요";
    ServerBusy: "the server is busy, please try again", "서버가 바쁩니다. 잠시 뒤 다시 시도하세요";
    InternalError:
        "internal error: {cause}: please report it",
        "내부 오류: {cause}. 개발자에게 알려 주세요";
    NoServer:
        "no server answers at {address}: start one with `ondol serve`",
        "{address}에서 응답하는 서버가 없습니다. `ondol serve`로 시작하세요";
    ServerRefusesKey:
        "the server at {address} wants a key: set ONDOL_API_KEY",
        "{address} 서버가 키를 요구합니다. ONDOL_API_KEY를 설정하세요";
    PortTaken:
        "cannot listen on {address}: {cause}: is a server running already? choose another with --host",
        "{address}에서 연결을 받을 수 없습니다: {cause}. 이미 서버가 있나요? --host로 다른 주소를 고르세요";
    ExposedWithoutKey:
        "{address} can be reached from other machines and no key is set: set ONDOL_API_KEYS, or listen on 127.0.0.1",
        "{address}{은/는} 다른 기기에서 접속할 수 있는데 키가 없습니다. ONDOL_API_KEYS를 설정하거나 127.0.0.1을 쓰세요";
    ModelNotLoaded: "model '{model}' is not running: see `ondol ps`", "모델 '{model}'{은/는} 실행 중이 아닙니다. `ondol ps`{을/를} 보세요";
    NoPrompt: "nothing to answer: the input is empty", "입력이 비어 있어 답할 것이 없습니다";
    NoHome:
        "cannot tell where to keep models: set HOME, ONDOL_HOME or --models",
        "모델을 둘 곳을 알 수 없습니다. HOME, ONDOL_HOME 또는 --models를 설정하세요";
    SettingInvalid: "{setting}: '{value}' is not {wanted}", "{setting}: '{value}'{은/는} {wanted}{이/가} 아닙니다";
    WantedDuration: "a duration (say 5m, 300 or -1)", "시간(예: 5m, 300, -1)";
    WantedMemory: "a size or share (say 12G or 60%)", "크기나 비율(예: 12G, 60%)";
    WantedAddress: "an address (say 127.0.0.1:11434)", "주소(예: 127.0.0.1:11434)";
    WantedWholeNumber: "a whole number", "정수";
    WantedNumber: "a number", "숫자";
    WantedFormat: "json or a JSON schema", "json 또는 JSON 스키마";
    WantedThinking: "true, false, low, medium or high", "true, false, low, medium, high 중 하나";
    ThinkingBegins: "Thinking...", "생각 중...";
    ThinkingEnds: "...done thinking.", "...생각을 마쳤습니다.";
    WantedDrafts: "a model or MODEL=DRAFT, with commas between", "모델 또는 MODEL=DRAFT(쉼표로 여럿)";
    WantedKvType: "f16, q8_0, q4_0 or f32", "f16, q8_0, q4_0, f32 가운데 하나";
    WantedPackedCache: "on, off or a size (say 20G)", "on, off 또는 크기(예: 20G)";
    WantedQuantization: "a type: Q2_K … Q6_K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, IQ4_XS, NF4, F16, BF16, F32 (Q3_K, Q4_K and Q5_K with _S, _M or _L)", "형식: Q2_K … Q6_K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, IQ4_XS, NF4, F16, BF16, F32 (Q3_K, Q4_K, Q5_K에는 _S, _M 또는 _L)";
    WantedProducts: "stored, f32 or bf16", "stored, f32, bf16 가운데 하나";
    WantedPrecision: "stored, f32, f16, bf16 or q8_0 (other types: ondol quantize)", "stored, f32, f16, bf16, q8_0 가운데 하나(다른 형식은 ondol quantize)";
    WantedLanguage: "a language (ko or en)", "언어(ko 또는 en)";

    NotAtSource:
        "no source has a model named '{model}': check the name, or name a file (./model.gguf)",
        "'{model}'{이라는/라는} 모델은 어디에도 없습니다. 이름을 확인하거나 파일(./model.gguf)을 지정하세요";
    StoreOffline:
        "offline: model '{model}' is not in the store and nothing may be fetched: leave out --offline to pull it",
        "오프라인입니다. 모델 '{model}'{이/가} 저장소에 없고 받을 수도 없습니다. 받으려면 --offline을 빼세요";
    ModelReadOnly:
        "model '{model}' belongs to Ollama's models folder, which is only read: remove it with Ollama",
        "모델 '{model}'{은/는} 읽기만 하는 Ollama 모델 폴더에 있습니다. Ollama로 지우세요";
    ModelChanged:
        "the file {path} of model '{model}' has changed or is gone: import it again",
        "모델 '{model}'의 파일 {path}{이/가} 바뀌었거나 없어졌습니다. 다시 등록하세요";
    NotAModel: "{path} is not a GGUF model file: {cause}", "{path}{은/는} GGUF 모델 파일이 아닙니다: {cause}";
    DiskFull:
        "not enough disk space at {path}: {needed} are needed, {free} are free",
        "{path}의 디스크 공간이 모자랍니다. {needed}{이/가} 필요하지만 {free}만 남았습니다";
    DiskFullNow:
        "the disk is full at {path}, {free} are free: make room and pull again, it goes on where it stopped",
        "{path}의 디스크가 가득 찼습니다({free} 남음). 자리를 만들고 다시 받으면 이어서 받습니다";
    NoClient: "{client} is not installed: {hint}", "{client}{이/가} 설치되어 있지 않습니다: {hint}";
    WrongDigest:
        "what {source} sent is not the model it should be, and was thrown away: try again, or tell its keeper",
        "{source}에서 받은 것이 원래 모델과 달라 버렸습니다. 다시 시도하거나 관리자에게 알리세요";
    BadModelName: "'{name}' is not a model name: say name, name:tag or ./file.gguf", "'{name}'{은/는} 모델 이름이 아닙니다. 이름, 이름:태그 또는 ./파일.gguf로 쓰세요";

    // Bad command lines.
    FlagUnknown: "unknown flag '{flag}': see `{command} --help`", "'{flag}'{은/는} 없는 옵션입니다. `{command} --help`{을/를} 보세요";
    CommandUnknown: "unknown command '{name}': see `ondol --help`", "'{name}'{은/는} 없는 명령입니다. `ondol --help`{을/를} 보세요";
    ArgumentUnexpected: "'{value}' is one argument too many: see `{command} --help`", "인자 '{value}'{이/가} 남습니다. `{command} --help`{을/를} 보세요";
    FlagValueInvalid: "'{value}' is not a value for {flag}: {cause}", "'{value}'{은/는} {flag}의 값이 될 수 없습니다: {cause}";
    FlagValueMissing: "{flag} needs a value", "{flag}에 값이 필요합니다";
    FlagConflict: "{flag} cannot be used together with {other}", "{flag}{은/는} {other}{과/와} 함께 쓸 수 없습니다";
    FlagRepeated: "{flag} was given twice", "{flag}{이/가} 두 번 나왔습니다";
    ArgumentMissing: "{arguments} is missing: see `{command} --help`", "{arguments}{이/가} 빠졌습니다. `{command} --help`{을/를} 보세요";

    // What commands report.
    Copied: "copied '{from}' to '{to}'", "'{from}'{을/를} '{to}'{으로/로} 복사했습니다";
    Deleted: "deleted '{model}'", "'{model}'{을/를} 지웠습니다";
    Stopped: "stopped '{model}'", "'{model}'{을/를} 내렸습니다";
    Listening: "Ondol {version} is listening on {address}", "Ondol {version}: {address}에서 기다립니다";
    ShuttingDown: "stopping: waiting for running answers, Ctrl-C again to end at once", "멈춥니다. 진행 중인 답을 기다립니다 (바로 끝내려면 Ctrl-C)";
    Loading: "loading {model}", "{model}{을/를} 불러오는 중";
    PullingManifest: "pulling manifest", "목록을 받는 중";
    PullNextSource: "{failed} failed ({reason}), trying the next source", "{failed}에서 받지 못해({reason}) 다음 곳에서 받습니다";
    WritingFile: "writing {digest}", "쓰는 중 {digest}";
    Quantized: "wrote {path} as {type}", "{path}{을/를} {type}{으로/로} 썼습니다";
    QuantizedSize: "size              ", "크기            ";
    QuantizedBits: "bits per weight   ", "가중치당 비트   ";
    QuantizedTypes: "tensors           ", "텐서            ";
    QuantizedTime: "time              ", "시간            ";
    QuantizedMemory: "peak memory       ", "최대 메모리     ";
    QuantizedPerplexity: "perplexity        ", "퍼플렉시티      ";
    QuantizedWorst: "error, largest    ", "가장 큰 오차    ";
    RequantizeWarning: "these weights have lost bits before ({types}): from the original model the result would be better", "이미 비트를 줄인 가중치입니다({types}). 원본 모델에서 줄이면 결과가 더 좋습니다";
    OnlyOursWarning: "{types} is a type of Ondol's own: no other program can read {path}", "{types}{은/는} Ondol만의 형식입니다. 다른 프로그램은 {path}{을/를} 읽지 못합니다";
    OnlyOurs: "{quantization} (only Ondol reads it)", "{quantization}(Ondol만 읽습니다)";
    QuantOrType: "--type and --quant both say what matrices become: give one of them", "--type과 --quant는 둘 다 행렬의 형식을 정합니다. 하나만 쓰세요";
    ImatrixWritten: "wrote {path}: {count} matrices over {windows} windows of {tokens} tokens", "{path}{을/를} 썼습니다: 행렬 {count}개, {tokens}토큰 구간 {windows}개";
    Converted: "wrote {path}: {count} tensors, {size}", "{path}{을/를} 썼습니다: 텐서 {count}개, {size}";
    WriteStopped: "stopped: {path} was not written", "멈췄습니다. {path}{은/는} 쓰지 않았습니다";
    PullingSomething: "pulling", "받는 중";
    PullingLayer: "pulling {digest}", "받는 중 {digest}";
    PullVerifying: "verifying sha256 digest", "sha256을 확인하는 중";
    PullWritingManifest: "writing manifest", "목록을 쓰는 중";
    PullRemovingUnused: "removing any unused layers", "쓰지 않는 조각을 지우는 중";
    PullSuccess: "success", "완료";
    Truncated: "{count} oldest messages were left out to fit the context", "문맥에 맞추려고 오래된 메시지 {count}개를 뺐습니다";

    // The cache of packed weights.
    CacheOff: "the cache of packed weights is switched off: set ONDOL_PACKED_CACHE=on", "재배열한 가중치의 캐시가 꺼져 있습니다. ONDOL_PACKED_CACHE=on으로 켜세요";
    CacheKept: "kept the packed weights of '{model}': {size}", "'{model}'의 재배열한 가중치를 보관했습니다: {size}";
    CacheAlready: "nothing to do for '{model}'", "'{model}'{은/는} 할 일이 없습니다";
    CacheNoRoom:
        "no room to keep the packed weights of '{model}': {needed} are needed beside what stays free",
        "'{model}'의 재배열한 가중치를 둘 자리가 없습니다. 남겨 둘 공간 말고 {needed}{이/가} 더 필요합니다";
    CacheBusy:
        "the packed weights of '{model}' are being written by another process, or its file is changing: try again",
        "다른 프로세스가 '{model}'의 가중치를 쓰고 있거나 파일이 바뀌고 있습니다. 다시 시도하세요";
    CacheCleared: "removed all packed weights", "재배열한 가중치를 모두 지웠습니다";
    CacheSound: "sound", "이상 없음";
    CacheDamaged: "damaged, removed", "손상되어 지움";
    CacheOtherVersion: "of another version of Ondol", "다른 버전의 Ondol이 쓴 것";
    CacheWasDamaged:
        "{count} files of packed weights were damaged and removed: the models pack them again, look at the disk",
        "재배열한 가중치 파일 {count}개가 손상되어 지웠습니다. 다시 만들어지지만 디스크를 점검하세요";
    CacheCurrent: "current", "유효";
    CacheStale: "stale", "쓸 수 없음";

    // Sections of `show`.
    SectionModel: "Model", "모델";
    SectionCapabilities: "Capabilities", "기능";
    SectionParameters: "Parameters", "매개변수";
    SectionSystem: "System", "시스템";
    SectionLicense: "License", "라이선스";
    SectionMetadata: "Metadata", "메타데이터";
    SectionTensors: "Tensors", "텐서";
    RowArchitecture: "architecture", "구조";
    RowParameters: "parameters", "파라미터";
    RowContextLength: "context length", "문맥 길이";
    RowEmbeddingLength: "embedding length", "임베딩 길이";
    RowQuantization: "quantization", "양자화";

    // The screen of `bench`.
    BenchMachine: "{threads} threads, {kernels} kernels", "스레드 {threads}개, {kernels} 커널";
    BenchRowMachine: "machine", "기기";
    BenchRowWeights: "weights", "가중치";
    BenchRowLoad: "load time", "불러오는 시간";
    BenchRowFirstToken: "first token after", "첫 토큰까지";
    BenchRowMemory: "peak memory", "최대 메모리";
    BenchRowBandwidth: "memory bandwidth", "메모리 대역폭";
    BenchColumnWork: "WORK", "작업";
    BenchColumnSpeed: "TOKENS/S", "토큰/초";
    BenchColumnStreamed: "READ GB/S", "읽기 GB/초";
    BenchColumnShare: "OF BANDWIDTH", "대역폭 대비";
    BenchPrefill: "prefill {tokens}", "입력 {tokens}토큰";
    BenchDecode: "decode {tokens}", "생성 {tokens}토큰";
    BenchDecodeAfter: "decode {tokens} after {context}", "{context}토큰 뒤 생성 {tokens}토큰";
    BenchDecodeBatch: "decode {tokens}, {batch} at once", "{batch}개를 한꺼번에 생성 {tokens}토큰";
    BenchSkipped:
        "left out: {work}, the model's context holds {context} tokens",
        "건너뜀: {work}. 모델의 문맥에는 {context}토큰만 들어갑니다";

    // The catalogue: `search`, and `show` of a model that is not here.
    SearchNothing: "nothing in the catalogue matches: use fewer words, or see all with `ondol search`", "목록에 맞는 모델이 없습니다. 낱말을 줄이거나 `ondol search`{으로/로} 모두 보세요";
    CatalogueLacks:
        "neither the store nor the catalogue has '{model}': see `ondol search`, or name a file (./model.gguf)",
        "'{model}'{이/가} 저장소에도 목록에도 없습니다. `ondol search`{을/를} 보거나 파일(./model.gguf)을 지정하세요";
    SearchColumnSize: "PARAMETERS", "파라미터";
    SearchColumnMemory: "MEMORY", "메모리";
    SearchColumnKorean: "KOREAN", "한국어";
    SearchColumnCommercial: "COMMERCIAL", "상업적 사용";
    SearchColumnAbout: "ABOUT", "설명";
    UseChat: "chat", "대화";
    UseCompletion: "completion", "글 잇기";
    UseCode: "code", "코드";
    UseTools: "tools", "도구";
    UseThinking: "thinking", "생각";
    UseEmbedding: "embedding", "임베딩";
    UseRerank: "rerank", "재순위";
    KoreanStrong: "strong", "뛰어남";
    KoreanGood: "good", "좋음";
    KoreanFair: "fair", "보통";
    KoreanWeak: "weak", "약함";
    CommercialFree: "yes", "가능";
    CommercialConditions: "with conditions", "조건부";
    CommercialNo: "no", "불가";
    CommercialUnstated: "not stated", "안 적힘";
    ShowActive: ", {count} for a token", ", 토큰마다 쓰는 것은 {count}";
    ShowRowMemory: "memory", "메모리";
    ShowMemory: "{bytes} with {tokens} tokens of context", "문맥 {tokens}토큰일 때 {bytes}";
    ShowRowHere: "here", "이 버전";
    ShowRuns: "runs", "실행됨";
    ShowRowUses: "for", "쓰임";
    ShowRowLanguages: "languages", "언어";
    ShowSectionUse: "Use", "쓰임과 조건";
    ShowSectionSources: "Sources", "받을 곳";
    ShowFolder: "{source} (safetensors)", "{source} (safetensors 폴더)";
    ShowPullHint:
        "Not in the store. Fetch it with `ondol pull {model}`; see `ondol fit {model}` for its speed here.",
        "저장소에 없습니다. `ondol pull {model}`{으로/로} 받고, 여기서의 속도는 `ondol fit {model}`{으로/로} 보세요.";
    ShowFolderHint:
        "It comes as a folder: fetch that folder and run it with `ondol run ./folder`; see `ondol fit {model}` for its speed here.",
        "폴더로 나옵니다. 그 폴더를 받아 `ondol run ./폴더`{으로/로} 실행하고, 여기서의 속도는 `ondol fit {model}`{으로/로} 보세요.";

    // The screen of `fit`.
    FitMeasuring: "measuring this machine, some seconds", "이 기기를 몇 초 동안 잽니다";
    FitSizesUnknown:
        "the sizes of '{model}' are not known: fetch it and name the file",
        "'{model}'의 크기를 알 수 없습니다. 받은 뒤 파일을 지정하세요";
    FitNothingToMeasure:
        "'{model}' is not here to be measured: ondol pull {model}",
        "'{model}'{이/가} 여기 없어 잴 수 없습니다: ondol pull {model}";
    FitSectionMachine: "This machine", "이 기기";
    FitRowProcessor: "processor", "프로세서";
    FitCores: "{cores} cores, {kernels} kernels", "코어 {cores}개, {kernels} 커널";
    FitRowMemory: "memory", "메모리";
    FitMemory: "{total}, {free} free", "{total}, 여유 {free}";
    FitMemoryLimit: ", {limit} allowed", ", 한도 {limit}";
    FitRowBudget: "for models", "모델 몫";
    FitRowBandwidth: "memory bandwidth", "메모리 대역폭";
    FitBandwidth: "{all} GB/s, {one} with one thread", "{all} GB/s, 스레드 하나로 {one}";
    FitRowProducts: "products", "곱셈";
    FitRowDisk: "disk", "디스크";
    FitDisk: "{free} free", "여유 {free}";
    FitRowDevices: "devices", "장치";
    FitNoDevices: "none: everything is computed on the processor", "없음. 모두 프로세서로 계산합니다";
    FitDevicesUnused: "{names}: not used by this version", "{names}. 이 버전은 쓰지 않습니다";
    FitColumnModel: "MODEL", "모델";
    FitColumnUse: "FOR", "쓰임";
    FitColumnQuantization: "QUANT", "양자화";
    FitColumnWeights: "WEIGHTS", "가중치";
    FitColumnKv: "KV {type} {tokens}", "KV {type} {tokens}토큰";
    FitColumnKvF16: "KV F16", "KV F16 (키·값)";
    FitColumnKvQ8: "KV Q8_0", "KV Q8_0 (키·값)";
    FitColumnTotal: "TOTAL", "합계";
    FitColumnPrefill: "READS T/S", "읽기 토큰/초";
    FitColumnDecode: "WRITES T/S", "쓰기 토큰/초";
    FitColumnContext: "CONTEXT MAX", "최대 문맥";
    FitColumnAfter: "CONTEXT", "문맥";
    FitColumnPredicted: "PREDICTED", "예측";
    FitColumnMeasured: "MEASURED", "측정";
    FitColumnError: "ERROR", "오차";
    FitDrift:
        "the machine's own speed changed by {percent} % meanwhile: something else is running",
        "그동안 기기의 속도가 {percent} % 달라졌습니다. 다른 일이 돌고 있습니다";
    FitThisFile: "this file", "이 파일";
    FitDoesNotRun: "this version cannot run it yet", "이 버전은 아직 실행하지 못합니다";
    FitDoesNotFit: "does not fit", "맞지 않음";
    FitHidden:
        "{count} models of the catalogue do not fit or cannot be run yet: see them with --all",
        "목록의 모델 {count}개는 맞지 않거나 아직 실행할 수 없습니다. --all로 보세요";
    FitSectionBest: "Best here", "여기에 좋은 모델";
    FitBestKorean: "Korean chat", "한국어 대화";
    FitBestChat: "chat", "대화";
    FitBestEmbedding: "embedding", "임베딩";
    FitBestRerank: "rerank", "재순위";
    FitBestNone: "none", "없음";

    // The screen of `compare`.
    CompareOneModel: "compare needs at least two models: name each with -m", "견줄 모델이 둘 이상 필요합니다. -m으로 하나씩 지정하세요";
    ComparePromptWrong: "{path}, line {line}: {cause}: each line is a JSON object with a prompt", "{path}의 {line}번째 줄: {cause}. 줄마다 prompt가 있는 JSON 객체여야 합니다";
    CompareAsking: "{model}: {index} of {all}", "{model}: {all}개 중 {index}번째";
    CompareStopped: "stopped: {done} of {all} answers are kept", "멈췄습니다. 답 {all}개 가운데 {done}개를 남겼습니다";
    CompareNothing: "no model answered", "답한 모델이 없습니다";
    CompareColumnPrompt: "PROMPT", "질문";
    CompareColumnExpected: "EXPECTED", "기대";
    CompareColumnFirst: "FIRST TOKEN", "첫 토큰";
    CompareColumnTokens: "TOKENS", "토큰";
    CompareColumnAnswer: "ANSWER", "답";
    CompareColumnAnswered: "ANSWERED", "답한 수";
    CompareColumnRight: "RIGHT", "맞음";
    CompareColumnLoad: "LOAD", "불러오기";
    CompareColumnTime: "TIME", "시간";
    CompareRight: "right", "맞음";
    CompareWrong: "wrong", "틀림";

    // The interactive prompt.
    Placeholder: "Send a message (/? for help)", "메시지를 입력하세요 (/? 도움말)";
    LeaveHint: "Use Ctrl + d or /bye to exit.", "끝내려면 Ctrl + d 또는 /bye를 쓰세요.";
    CommandNotKnown: "Unknown command '{name}'. Type /? for help", "'{name}'{은/는} 없는 명령입니다. /?로 도움말을 보세요";
    ParameterUnknown: "Unknown parameter '{name}'. Type /set parameter to see them all", "'{name}'{은/는} 없는 매개변수입니다. /set parameter로 목록을 보세요";
    ParameterInvalid: "Couldn't set parameter '{name}': '{value}' is not {wanted}", "매개변수 '{name}'{을/를} 정하지 못했습니다. '{value}'{은/는} {wanted}{이/가} 아닙니다";
    ParameterSet: "Set parameter '{name}' to '{value}'", "매개변수 '{name}'{을/를} '{value}'{으로/로} 정했습니다";
    SystemSet: "Set system message.", "시스템 메시지를 정했습니다.";
    HistoryOn: "Set 'history' mode.", "입력 기록을 남깁니다.";
    HistoryOff: "Set 'nohistory' mode.", "입력 기록을 남기지 않습니다.";
    WordWrapOn: "Set 'wordwrap' mode.", "낱말 단위로 줄을 바꿉니다.";
    WordWrapOff: "Set 'nowordwrap' mode.", "낱말 단위 줄바꿈을 하지 않습니다.";
    FormatSet: "Set format to 'json' mode.", "답의 형식을 json으로 정했습니다.";
    FormatOff: "Disabled format.", "답의 형식을 정하지 않습니다.";
    VerboseOn: "Set 'verbose' mode.", "답마다 통계를 보여 줍니다.";
    VerboseOff: "Set 'quiet' mode.", "통계를 보여 주지 않습니다.";
    ThinkOn: "Set 'think' mode.", "생각한 뒤 답합니다.";
    ThinkOff: "Set 'nothink' mode.", "생각 과정 없이 답합니다.";
    Cleared: "Cleared session context", "대화 내용을 지웠습니다";
    MemoryNeeded:
        "{model}: {weights} of weights, {cache} of keys and values for a context of {context} tokens; {free} are free",
        "{model}: 가중치 {weights}, 문맥 {context}토큰의 키와 값 {cache}. 남은 메모리는 {free}입니다";
    QuantisedWhileLoading: "{from}, {to} when it is loaded", "{from}. 불러올 때 {to}";
    RowMemory: "memory", "메모리";
    MemoryOfModel: "{weights} of weights, {cache} for a context of {context} tokens", "가중치 {weights}, 문맥 {context}토큰에 {cache}";
    LoadingModel: "Loading model '{model}'", "모델 '{model}'{을/를} 불러옵니다";
    SaveUnsupported: "/save is not there yet: use `ondol cp` to keep a model under another name", "/save는 아직 없습니다. 다른 이름으로 두려면 `ondol cp`{을/를} 쓰세요";
    NoLicense: "No license was specified for this model.", "이 모델에는 라이선스가 적혀 있지 않습니다.";
    NoSystem: "No system message was specified for this model.", "이 모델에는 시스템 메시지가 없습니다.";
    NoTemplate: "No prompt template was specified for this model.", "이 모델에는 프롬프트 틀이 없습니다.";
    NoParameters: "No additional parameters were specified for this model.", "이 모델에는 정해 둔 매개변수가 없습니다.";
    SessionParameters: "Parameters set in this session:", "이 대화에서 정한 매개변수:";
    ModelParameters: "Parameters of the model:", "모델의 매개변수:";
    HelpGeneral:
        "Available Commands:\n  \
        /set            Change how this session answers\n  \
        /show           Show what is known of the model\n  \
        /load <model>   Change to another model\n  \
        /save <model>   Keep this session (not there yet)\n  \
        /clear          Forget the conversation\n  \
        /bye, /exit     Exit\n  \
        /?, /help       Help for a command\n  \
        /? shortcuts    Help for keyboard shortcuts\n\n\
        Use \"\"\" to begin a message of several lines.\n",
        "명령:\n  \
        /set            이 대화의 설정을 바꿉니다\n  \
        /show           모델 정보를 봅니다\n  \
        /load <모델>    다른 모델로 바꿉니다\n  \
        /save <모델>    이 대화를 저장합니다 (아직 없음)\n  \
        /clear          대화 내용을 지웁니다\n  \
        /bye, /exit     끝냅니다\n  \
        /?, /help       명령의 도움말을 봅니다\n  \
        /? shortcuts    단축키를 봅니다\n\n\
        여러 줄을 쓰려면 \"\"\"로 시작하세요.\n";
    HelpSet:
        "Available Commands:\n  \
        /set parameter ...     Set a parameter\n  \
        /set system <string>   Set the system message\n  \
        /set history           Keep a history of inputs\n  \
        /set nohistory         Keep none\n  \
        /set wordwrap          Wrap lines at words\n  \
        /set nowordwrap        Do not\n  \
        /set format json       Answer in JSON\n  \
        /set noformat          Answer freely\n  \
        /set verbose           Show figures after each answer\n  \
        /set quiet             Do not\n  \
        /set think [level]     Think before answering: low, medium, high\n  \
        /set nothink           Do not\n",
        "명령:\n  \
        /set parameter ...     매개변수를 정합니다\n  \
        /set system <글>       시스템 메시지를 정합니다\n  \
        /set history           입력 기록을 남깁니다\n  \
        /set nohistory         남기지 않습니다\n  \
        /set wordwrap          낱말 단위로 줄을 바꿉니다\n  \
        /set nowordwrap        바꾸지 않습니다\n  \
        /set format json       JSON으로 답합니다\n  \
        /set noformat          자유롭게 답합니다\n  \
        /set verbose           답마다 통계를 보여 줍니다\n  \
        /set quiet             보여 주지 않습니다\n  \
        /set think [정도]      생각한 뒤 답합니다: low, medium, high\n  \
        /set nothink           바로 답합니다\n";
    HelpParameter: "Available Parameters:\n", "매개변수:\n";
    HelpShow:
        "Available Commands:\n  \
        /show info         Show details of this model\n  \
        /show license      Show its license\n  \
        /show modelfile    Show its Modelfile\n  \
        /show parameters   Show its parameters and those set here\n  \
        /show system       Show the system message\n  \
        /show template     Show its prompt template\n",
        "명령:\n  \
        /show info         모델의 자세한 정보\n  \
        /show license      라이선스\n  \
        /show modelfile    Modelfile\n  \
        /show parameters   모델의 매개변수와 여기서 정한 것\n  \
        /show system       시스템 메시지\n  \
        /show template     프롬프트 틀\n";
    HelpShortcuts:
        "Available keyboard shortcuts:\n  \
        Ctrl + a            Move to the beginning of the line (Home)\n  \
        Ctrl + e            Move to the end of the line (End)\n   \
        Alt + b            Move back by one word (left)\n   \
        Alt + f            Move forward by one word (right)\n  \
        Ctrl + k            Delete what stands after the cursor\n  \
        Ctrl + u            Delete what stands before the cursor\n  \
        Ctrl + w            Delete the word before the cursor\n  \
        Ctrl + l            Clear the screen\n  \
        Ctrl + c            Stop the answer\n  \
        Ctrl + d            Exit (/bye)\n",
        "단축키:\n  \
        Ctrl + a            줄의 처음으로 (Home)\n  \
        Ctrl + e            줄의 끝으로 (End)\n   \
        Alt + b            한 낱말 뒤로\n   \
        Alt + f            한 낱말 앞으로\n  \
        Ctrl + k            커서 뒤를 지움\n  \
        Ctrl + u            커서 앞을 지움\n  \
        Ctrl + w            앞 낱말을 지움\n  \
        Ctrl + l            화면을 지움\n  \
        Ctrl + c            답을 멈춤\n  \
        Ctrl + d            끝냄 (/bye)\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(template: &str) -> Vec<&str> {
        let mut found: Vec<&str> = template
            .split('{')
            .skip(1)
            .filter_map(|part| part.split_once('}').map(|(key, _)| key))
            .filter(|key| !key.contains('/'))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn both_languages_say_the_same_values() {
        for message in Message::ALL {
            let (english, korean) = message.forms();
            assert_eq!(placeholders(english), placeholders(korean), "{message:?}");
            assert!(!english.is_empty() && !korean.is_empty(), "{message:?}");
            for pair in
                korean.split('{').filter_map(|part| part.split_once('}')?.0.contains('/').then_some(part))
            {
                let known = ["을/를}", "이/가}", "은/는}", "과/와}", "으로/로}", "이라는/라는}"];
                assert!(known.iter().any(|known| pair.starts_with(known)), "{message:?}: {pair}");
            }
        }
    }

    #[test]
    fn korean_is_korean_and_english_is_not() {
        let hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
        for message in Message::ALL {
            let (english, korean) = message.forms();
            assert!(!hangul(english), "{message:?}");
            // The one sentence that is only values and names.
            assert!(hangul(korean), "{message:?}");
        }
    }

    #[test]
    fn help_lists_the_same_commands() {
        for message in [Message::HelpGeneral, Message::HelpSet, Message::HelpShow, Message::HelpShortcuts] {
            let (english, korean) = message.forms();
            let heads = |text: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| line.starts_with("  "))
                    .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                    .collect()
            };
            assert_eq!(heads(english), heads(korean), "{message:?}");
        }
    }

    #[test]
    fn values_and_particles_are_filled_in() {
        let check = |language, message, values: &[(&str, &str)], expected: &str| {
            assert_eq!(say(language, message, values), expected);
        };
        check(
            Language::English,
            Message::ModelNotFound,
            &[("model", "x")],
            "model 'x' not found, try pulling it first: ondol pull x",
        );
        check(
            Language::Korean,
            Message::ModelNotFound,
            &[("model", "smollm2")],
            "모델 'smollm2'를 찾을 수 없습니다. 먼저 받으세요: ondol pull smollm2",
        );
        check(
            Language::Korean,
            Message::Copied,
            &[("from", "gemma3:270m"), ("to", "작은것")],
            "'gemma3:270m'을 '작은것'으로 복사했습니다",
        );
        // A value that looks like a template is text.
        check(
            Language::Korean,
            Message::Deleted,
            &[("model", "{model}{을/를}")],
            "'{model}{을/를}'을 지웠습니다",
        );
    }

    #[test]
    fn languages_by_locale_name() {
        for (name, expected) in [
            ("ko_KR.UTF-8", Some(Language::Korean)),
            ("ko", Some(Language::Korean)),
            ("KO-kr", Some(Language::Korean)),
            ("en_US.UTF-8", Some(Language::English)),
            ("C.UTF-8", Some(Language::English)),
            ("POSIX", Some(Language::English)),
            ("fr_FR", None),
            ("", None),
            ("kok_IN", None),
        ] {
            assert_eq!(Language::from_name(name), expected, "{name}");
        }
    }
}
