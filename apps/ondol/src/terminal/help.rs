//! The Korean help of the command line. English help is the doc comments of `flags`; this table holds the other
//! language by the same names, and a test walks the command tree so that neither can lack an entry.

use clap::Command;

use crate::terminal::messages::Language;

/// `command` or `command argument` → help. The root is `ondol`.
const KOREAN: &[(&str, &str)] = &[
    ("ondol", "내 기기에서 언어 모델을 실행합니다"),
    ("ondol lang", "메시지 언어: ko 또는 en"),
    ("ondol models", "모델을 두는 곳 (기본: ~/.ondol)"),
    ("ondol offline", "네트워크를 쓰지 않습니다"),
    ("ondol packed_cache", "다음 시작을 위해 재배열한 가중치를 보관합니다: on, off 또는 크기 한도 (예: 20G)"),
    ("ondol kv_type", "지난 토큰의 키와 값을 두는 형식: f16, q8_0, q4_0 또는 f32"),
    ("ondol fast_prefill", "가중치를 한 번 더 반올림해 프롬프트를 더 빨리 읽습니다"),
    ("ondol quant", "F32, F16, BF16 모델을 불러오면서 양자화합니다 (예: q4_k_m)"),
    ("run", "모델을 실행합니다: 질문에 답하거나 대화합니다"),
    ("run model", "모델 이름, 또는 .gguf 파일이나 safetensors 폴더의 경로"),
    ("run prompt", "질문. 없으면 대화를 시작합니다"),
    ("run verbose", "답마다 걸린 시간을 보여 줍니다"),
    ("run keepalive", "모델을 메모리에 두는 시간 (5m, 300, -1)"),
    ("run format", "답의 형식: json 또는 JSON 스키마"),
    ("run nowordwrap", "낱말 단위로 줄을 바꾸지 않습니다"),
    ("run think", "생각한 뒤 답합니다: true, false, low, medium, high"),
    ("run no_think", "생각하지 않고 답합니다. --think=false와 같습니다"),
    ("run hidethinking", "생각 과정을 보여 주지 않습니다"),
    ("run interactive", "표준 입력이 터미널이 아니어도 대화합니다"),
    ("run system", "시스템 메시지"),
    ("run temperature", "무작위 정도. 0이면 늘 가장 그럴듯한 토큰"),
    ("run greedy", "--temperature 0과 같습니다"),
    ("run top_k", "가장 그럴듯한 토큰 K개 가운데서 고릅니다. 0이면 끔"),
    ("run top_p", "확률의 합이 이만큼인 토큰 가운데서 고릅니다"),
    ("run min_p", "가장 그럴듯한 토큰의 이 비율보다 낮으면 뺍니다"),
    ("run repeat_penalty", "되풀이한 토큰에 주는 벌점. 1이면 끔"),
    ("run seed", "같은 시드는 같은 답을 냅니다"),
    ("run num_predict", "생성할 토큰 수의 한도. -1이면 없음"),
    ("run ctx", "문맥 크기(토큰)"),
    ("run threads", "계산에 쓸 스레드 수"),
    ("run draft_model", "앞서 추측할, 어휘가 같은 작은 모델. 답은 그대로입니다"),
    ("pull", "모델을 저장소로 받습니다"),
    ("pull model", "받을 모델"),
    ("pull insecure", "TLS가 없는 저장소도 받아들입니다"),
    ("list", "저장소의 모델을 보여 줍니다"),
    ("list prefix", "이름이 이렇게 시작하는 모델만"),
    ("search", "목록에서 모델을 찾습니다"),
    ("search words", "찾을 낱말(한국어 또는 영어). 모두 맞아야 합니다"),
    ("search korean", "한국어를 잘하는 모델"),
    ("search embedding", "글을 벡터로 바꾸는 모델"),
    ("search rerank", "찾은 글의 순서를 다시 매기는 모델"),
    ("search code", "코드를 쓰는 모델"),
    ("search tools", "도구를 쓰는 모델"),
    ("search commercial", "회사에서 쓸 수 있는 모델"),
    ("search runs", "이 버전이 실행할 수 있는 모델"),
    ("search max_memory", "메모리가 이보다 더 들지 않는 모델 (예: 8G)"),
    ("search json", "JSON으로 출력합니다"),
    ("show", "모델 정보를 보여 줍니다"),
    ("show model", "볼 모델: 이름 또는 경로"),
    ("show license", "라이선스"),
    ("show modelfile", "Modelfile"),
    ("show parameters", "매개변수"),
    ("show system", "시스템 메시지"),
    ("show template", "프롬프트 틀"),
    ("show verbose", "메타데이터와 텐서까지 모두"),
    ("show json", "JSON으로 출력합니다"),
    ("rm", "저장소에서 모델을 지웁니다"),
    ("rm names", "지울 모델"),
    ("cp", "모델에 두 번째 이름을 붙입니다"),
    ("cp source", "복사할 모델, 또는 .gguf 파일이나 safetensors 폴더(그 자리에 그대로 둡니다)"),
    ("cp destination", "두 번째 이름"),
    ("ps", "서버가 메모리에 올린 모델을 보여 줍니다"),
    ("stop", "서버의 메모리에서 모델을 내립니다"),
    ("stop model", "내릴 모델"),
    ("serve", "Ollama와 OpenAI API를 제공합니다"),
    ("serve host", "연결을 받을 주소 (기본: 127.0.0.1:11434)"),
    ("serve port", "연결을 받을 포트"),
    ("serve threads", "계산에 쓸 스레드 수"),
    ("serve draft_model", "앞서 추측할 작은 모델: 맞는 모든 모델에, 또는 한 모델에만 MODEL=DRAFT"),
    ("bench", "이 기기에서 모델이 얼마나 빠른지 잽니다"),
    ("bench model", "모델 이름, 또는 .gguf 파일이나 safetensors 폴더의 경로"),
    ("bench prefill", "읽을 입력의 토큰 수"),
    ("bench decode", "생성할 토큰 수. 0이면 생성하지 않습니다"),
    ("bench context", "생성하기 전에 이미 있는 토큰 수"),
    ("bench batch", "한꺼번에 생성할 시퀀스 수"),
    ("bench repeat", "되풀이할 횟수. 중앙값을 냅니다"),
    ("bench threads", "계산에 쓸 스레드 수"),
    ("bench kernels", "가장 좋은 것 대신 쓸 명령어 집합"),
    ("bench json", "JSON으로 출력합니다"),
    ("cache", "재배열한 가중치의 캐시를 보고, 채우고, 확인하고, 비웁니다"),
    ("cache fill", "이 모델들의 가중치를 지금 재배열해 둡니다"),
    ("cache verify", "모두 읽어 보고 손상된 것을 지웁니다"),
    ("cache clear", "모두 지웁니다"),
    ("fit", "이 기기에 어떤 모델이 맞고 얼마나 빠를지 알려 줍니다"),
    ("fit model", "목록이나 저장소의 모델, .gguf 파일 또는 폴더. 없으면 맞는 모델 모두"),
    ("fit ctx", "따져 볼 문맥 길이(토큰)"),
    ("fit all", "맞지 않거나 실행할 수 없는 것, 다른 양자화까지 모두"),
    ("fit commercial", "회사에서 쓸 수 있는 모델만"),
    ("fit measure", "모델을 실행해 예측과 견줍니다"),
    ("fit threads", "계산에 쓸 스레드 수"),
    ("fit quick", "기기의 속도를 재지 않고 메모리만 따집니다"),
    ("fit json", "JSON으로 출력합니다"),
    ("compare", "여러 모델에 같은 것을 묻고 나란히 보여 줍니다"),
    ("compare prompt", "질문. 또는 --file"),
    ("compare asked", "물을 모델: 이름, .gguf 파일 또는 폴더. 둘 이상"),
    ("compare file", "질문들. 한 줄에 JSON 객체 하나: prompt, 원하면 id, system, expected"),
    ("compare system", "시스템 메시지"),
    ("compare temperature", "무작위 정도. 0이면 늘 가장 그럴듯한 토큰"),
    ("compare greedy", "--temperature 0과 같습니다"),
    ("compare top_k", "가장 그럴듯한 토큰 K개 가운데서 고릅니다. 0이면 끔"),
    ("compare top_p", "확률의 합이 이만큼인 토큰 가운데서 고릅니다"),
    ("compare min_p", "가장 그럴듯한 토큰의 이 비율보다 낮으면 뺍니다"),
    ("compare repeat_penalty", "되풀이한 토큰에 주는 벌점. 1이면 끔"),
    ("compare seed", "같은 시드는 같은 답을 냅니다"),
    ("compare num_predict", "답마다 생성할 토큰 수의 한도 (기본 512). -1이면 없음"),
    ("compare ctx", "문맥 크기(토큰)"),
    ("compare threads", "이 프로세스에서 계산에 쓸 스레드 수"),
    ("compare markdown", "Markdown으로 출력합니다"),
    ("compare json", "JSON으로 출력합니다"),
    ("eval", "모델을 평가합니다"),
    ("embed", "글을 벡터로 바꿔 한 줄에 하나씩 JSON으로 씁니다"),
    ("embed model", "모델 이름, .gguf 파일 또는 폴더"),
    ("embed texts", "글, 하나에 벡터 하나"),
    ("embed file", "글이 한 줄에 하나씩 있는 파일, 표준 입력은 -"),
    ("embed dimensions", "벡터마다 앞에서부터 이만큼의 수"),
    ("embed raw", "길이를 1로 맞추지 않고 모델이 낸 그대로"),
    ("embed no_truncate", "문맥보다 긴 글은 자르지 않고 거절합니다"),
    ("embed threads", "계산에 쓸 스레드 수"),
    ("convert", "safetensors 폴더를 GGUF 파일로 씁니다"),
    ("convert source", "safetensors 폴더, .gguf 파일 또는 저장소의 모델"),
    ("convert output", "쓸 GGUF 파일"),
    ("convert type", "행렬의 형식: stored(그대로), f32, f16, bf16 또는 q8_0"),
    ("convert force", "파일이 이미 있으면 바꿉니다"),
    ("convert threads", "계산에 쓸 스레드 수"),
    ("quantize", "모델을 더 적은 비트로 씁니다"),
    ("quantize source", ".gguf 파일, safetensors 폴더 또는 저장소의 모델"),
    ("quantize output", "쓸 GGUF 파일"),
    ("quantize type", "형식의 조합. 예: Q4_K_M, Q8_0"),
    ("quantize imatrix", "열마다 오차의 무게: 중요도 행렬 파일, 또는 그것을 만들 글"),
    ("quantize keep", "이 이름의 텐서(*는 아무 글자)에 이 형식을 주거나, 형식이 없으면 그대로 둡니다"),
    ("quantize eval", "앞뒤의 퍼플렉시티를 잴 글"),
    ("quantize report", "보고를 출력하는 형식"),
    ("quantize force", "파일이 이미 있으면 바꿉니다"),
    ("quantize threads", "계산에 쓸 스레드 수"),
    ("imatrix", "quantize를 위해, 가중치의 오차가 얼마나 중요한지 글에서 잽니다"),
    ("imatrix source", ".gguf 파일, safetensors 폴더 또는 저장소의 모델"),
    ("imatrix text", "UTF-8 글. 모델을 쓸 곳의 글과 비슷한 것"),
    ("imatrix output", "쓸 파일"),
    ("imatrix window", "한 구간의 토큰 수"),
    ("imatrix force", "파일이 이미 있으면 바꿉니다"),
    ("imatrix threads", "계산에 쓸 스레드 수"),
    ("completions", "셸 자동 완성 스크립트를 출력합니다"),
    ("completions shell", "셸"),
    ("help", "이 도움말 또는 명령의 도움말을 보여 줍니다"),
];

const KOREAN_TEMPLATE: &str = "{before-help}{about-with-newline}\n사용법: {usage}\n\n{all-args}{after-help}";

/// The command tree with its help in the user's language.
pub(crate) fn localise(root: Command, language: Language) -> Command {
    match language {
        Language::English => root,
        Language::Korean => {
            let mut root = root;
            root.build();
            korean(root, true)
        }
    }
}

fn korean(mut command: Command, is_root: bool) -> Command {
    let name = command.get_name().to_owned();
    let about = lookup(&name, None);
    command = command
        .help_template(KOREAN_TEMPLATE)
        .subcommand_help_heading("명령")
        .subcommand_value_name("명령")
        .mut_args(|argument| {
            let help = argument_help(&name, argument.get_id().as_str());
            let heading = if argument.is_positional() { "인자" } else { "옵션" };
            let argument = argument.help_heading(heading);
            match help {
                Some(help) => argument.help(help).long_help(None),
                None => argument,
            }
        });
    if let Some(about) = about {
        command = command.about(about).long_about(None);
    }
    if is_root || command.has_subcommands() {
        command = command.mut_subcommands(|sub| korean(sub, false));
    }
    command
}

fn lookup(command: &str, argument: Option<&str>) -> Option<&'static str> {
    let key = argument.map_or_else(|| command.to_owned(), |argument| format!("{command} {argument}"));
    KOREAN.iter().find(|(name, _)| *name == key).map(|(_, help)| *help)
}

fn argument_help(command: &str, argument: &str) -> Option<&'static str> {
    match argument {
        "help" => Some("도움말을 봅니다"),
        "version" => Some("버전을 봅니다"),
        _ => lookup(command, Some(argument)).or_else(|| lookup("ondol", Some(argument))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    #[test]
    fn every_command_and_flag_has_korean_help() {
        let root = flags::command(Language::English);
        let mut used = Vec::new();
        for command in std::iter::once(&root).chain(root.get_subcommands()) {
            // `eval` keeps its own flags, in its own file, for engineers.
            let name = command.get_name();
            assert!(lookup(name, None).is_some(), "no Korean help for {name}");
            used.push(name.to_owned());
            if name == "eval" {
                continue;
            }
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                assert!(argument_help(name, id).is_some(), "no Korean help for {name} {id}");
                assert!(argument.get_help().is_some(), "no English help for {name} {id}");
                used.push(format!("{name} {id}"));
            }
        }
        for (key, _) in KOREAN {
            assert!(*key == "help" || used.iter().any(|name| name == key), "help for nothing: {key}");
        }
    }

    #[test]
    fn korean_help_has_korean_headings() {
        let text = flags::command(Language::Korean).render_help().to_string();
        for word in ["사용법:", "명령:", "옵션:", "모델을 저장소로 받습니다"] {
            assert!(text.contains(word), "{word} is missing in:\n{text}");
        }
        for word in ["Usage:", "Commands:", "Options:"] {
            assert!(!text.contains(word), "{word} in:\n{text}");
        }
    }
}
