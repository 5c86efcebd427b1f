//! Unit tests of templates: bounds, Python's ways, fallbacks.
//! The templates of real models are compared with the engine they were written for in `tests/`.

use contract::Role;

use super::*;

fn conversation() -> Vec<Message> {
    vec![
        Message::new(Role::System, "Be brief."),
        Message::new(Role::User, "안녕?"),
        Message::new(Role::Assistant, "안녕!"),
        Message::new(Role::User, "1 < 2 & \"so\"?"),
    ]
}

fn render(source: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::from_source(source, "<s>", "</s>")?;
    // As it stands: what is done for templates without a place for tools is tested in `tests/round_trip.rs`.
    let messages: Vec<Value> = conversation().iter().map(message_in_hf_shape).collect();
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    template.render_values(&messages, &[json!({"name": "f", "가": [1, 2.0, null]})], &options)
}

fn check(source: &str, expected: &str) {
    assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
}

#[test]
fn python_and_transformers_ways() {
    check("{{ bos_token }}{{ messages[0].content }}{{ missing }}|", "<s>Be brief.|");
    check("{{ tools | tojson }}", r#"[{"name": "f", "가": [1, 2.0, null]}]"#);
    check(
        "{{ {'b': [1], 'a': {}} | tojson(indent=2, sort_keys=true) }}",
        "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}",
    );
    check("{{ 'é' | tojson(ensure_ascii=true) }}{{ '<' | tojson }}", r#""\u00e9""<""#);
    check(
        "{{ {'a': none, 'b': true} }} {{ [1.0, 'x'] }} {{ none }}",
        "{'a': None, 'b': True} [1.0, 'x'] None",
    );
    check("{{ messages[-1]['content'] }}", "1 < 2 & \"so\"?");
    check("{{ messages[::-1][0].role }}{{ messages[1:] | length }}{{ 'abc'[1:] }}", "user3bc");
    check(
        "{% for m in messages %}\n  {% if loop.first %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}",
        "system\n",
    );
    check("{% generation %}x{%- endgeneration -%} y", "xy");
    check("{% for x in [1,2,3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13");
    check("{{ 'a-b'.split('-')[-1] }}{{ ' x '.strip() }}{{ 'ab'.startswith('a') }}", "bxTrue");
    check(
        "{{ 'a{}b{}'.format(1, 'c') }}{{ ', '.join(['x', 'y']) }}{{ 'aaa'.replace('a', 'b', 2) }}",
        "a1bcx, ybba",
    );
    check(
        "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 'ab' * 2 }} {{ 'x' ~ 1 ~ none }}",
        "-4 2 3.5 abab x1None",
    );
    check(
        "{{ none is iterable }}{{ '' is iterable }}{{ 1 is iterable }}{{ {} is sequence }}",
        "FalseTrueFalseTrue",
    );
    check("{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(1, y=3) }}", "1213");
    check(
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "4",
    );
    check("{{ 'a' in {'a': 1} }}{{ 2 not in [1] }}{{ 1 < 2 <= 2 }}", "TrueTrueTrue");
    check("{{ strftime_now is defined }}{{ tools is not none }}{{ tools is iterable }}", "FalseTrueTrue");
}

#[test]
fn the_date_is_passed_in() {
    let template = ChatTemplate::from_source("{{ strftime_now('%d %b %Y') }}", "", "").unwrap();
    let now = Some(Moment { unix_seconds: 0, offset_seconds: 0 });
    let options = RenderOptions { now, ..RenderOptions::default() };
    assert_eq!(template.render_with(&[], &[], &options).unwrap(), "01 Jan 1970");
}

#[test]
fn refusals_say_what_the_template_said() {
    let refused = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(refused, TemplateError::Refused { message: "roles must alternate".to_owned() });
    let nested = render("{% macro f() %}{{ raise_exception('no') }}{% endmacro %}{{ f() }}").unwrap_err();
    assert_eq!(nested, TemplateError::Refused { message: "no".to_owned() });
    let long = render("{{ raise_exception('가' * 100000) }}").unwrap_err();
    assert!(matches!(long, TemplateError::Refused { message } if message.len() < 2000));
    assert!(render(&format!("{{{{ 1 | {} }}}}", "f".repeat(100_000))).unwrap_err().to_string().len() < 2000);
    assert!(matches!(render("{{ messages.append(1) }}"), Err(TemplateError::Render { .. })));
    assert!(matches!(render("{{ missing.attribute }}"), Err(TemplateError::Render { .. })));
    assert!(matches!(render("{% if %}"), Err(TemplateError::Compile { .. })));
}

/// Templates that want more than they may have. None of them may take long or allocate more than the budget.
#[test]
fn bombs_are_stopped() {
    let bombs = [
        "{{ 'a' * 100000000 }}",
        "{{ 100000000 * 'a' }}",
        "{{ ('a' * 1000 * 1000 * 100) | length }}",
        "{{ ('a', ) * 100000000 }}",
        "{% set x = 'a' * 100000000 %}",
        "{% set x = [1] * 100000000 %}{{ x | length }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x | replace('a', ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='{0}{0}') %}{% for i in range(60) %}{% set ns.x = ns.x.format(ns.x) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ '%s' | indent(1000000000) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% for i in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
        "{% for i in range(99999) %}{{ 'b' in 'a' * 1000000 }}{% endfor %}",
        "{% for i in range(99999) %}{% set x = messages[::-1] ~ messages %}{% endfor %}",
    ];
    for bomb in bombs {
        let stopped = render(bomb);
        let limited = matches!(stopped, Err(TemplateError::Limit { .. }));
        let recursion =
            matches!(&stopped, Err(TemplateError::Render { message }) if message.contains("recursion"));
        assert!(limited || recursion, "{bomb}: {stopped:?}");
    }
    let literal = format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "x".repeat(100_000));
    assert!(matches!(render(&literal), Err(TemplateError::Limit { .. })));
    let captured = format!("{{% set x %}}{literal}{{% endset %}}");
    assert!(matches!(render(&captured), Err(TemplateError::Limit { .. })));
    assert!(matches!(render(&"x".repeat(1 << 20)), Err(TemplateError::TooLong { .. })));
    assert!(matches!(render(&"x".repeat(1 << 18)), Ok(text) if text.len() == 1 << 18));
    // Constants that the engine would compute while it compiles.
    let constants = format!("{{{{ [{}] }}}}", "'a' * 100000000, ".repeat(100));
    assert!(matches!(render(&constants), Err(TemplateError::Limit { .. })));
}

/// Values nested as deep as the fuel allows are built, printed and dropped without exhausting the stack.
#[test]
fn deep_values_do_not_crash() {
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for end in [
        "",
        "{{ ns.x }}",
        "{{ ns.x | tojson }}",
        "{{ ns.x ~ 'a' }}",
        "{{ ns.x | string }}",
        "{{ ns.x == [ns.x] }}",
    ] {
        let _ = render(&format!("{deep}{end}"));
    }
    let nested = "(".repeat(100_000);
    assert!(matches!(render(&format!("{{{{ {nested} }}}}")), Err(TemplateError::Compile { .. })));
    let blocks = "{% if true %}".repeat(15_000);
    assert!(matches!(render(&blocks), Err(TemplateError::Compile { .. })));
    let own = "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}{{ ns.x.x.x is defined }}";
    assert!(matches!(render(own), Err(TemplateError::Render { .. })));
}

#[test]
fn python_objects_are_out_of_reach() {
    for payload in [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.popen('id') }}",
        "{{ debug() }}",
    ] {
        assert!(render(payload).is_err(), "{payload}");
    }
}

#[test]
fn builtin_templates_render() {
    for name in ChatTemplate::builtin_names() {
        let template = ChatTemplate::builtin(name, "<s>", "</s>").unwrap();
        assert_eq!(template.origin(), &TemplateOrigin::Builtin(name));
        let prompt = template.render(&conversation(), &[], true).unwrap();
        for message in conversation() {
            assert!(prompt.contains(&message.content), "{name}: {prompt}");
        }
    }
    assert!(ChatTemplate::builtin("no such", "", "").is_none());
    let chatml = ChatTemplate::builtin("chatml", "", "").unwrap();
    assert_eq!(
        chatml.render(&conversation()[1..3], &[], true).unwrap(),
        "<|im_start|>user\n안녕?<|im_end|>\n<|im_start|>assistant\n안녕!<|im_end|>\n<|im_start|>assistant\n"
    );
    let gemma = ChatTemplate::builtin("gemma", "<bos>", "").unwrap();
    assert_eq!(
        gemma.render(&conversation()[..2], &[], true).unwrap(),
        "<bos><start_of_turn>user\nBe brief.\n\n안녕?<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn what_a_template_can() {
    let check = |source: &str, tools: bool, thinking: bool| {
        let template = ChatTemplate::from_source(source, "", "").unwrap();
        assert_eq!((template.supports_tools(), template.supports_thinking()), (tools, thinking), "{source}");
    };
    check("{{ messages }}", false, false);
    check("{% if tools %}{{ tools }}{% endif %}", true, false);
    check("{{ my_tools_text }}", false, false);
    check("{% if enable_thinking %}{% endif %}", false, true);
}

#[test]
fn thoughts_and_calls_go_in_the_shape_of_transformers() {
    let mut message = Message::new(Role::Assistant, "");
    message.thinking = Some("hm".to_owned());
    message.tool_calls =
        vec![ToolCall { id: Some("1".to_owned()), name: "f".to_owned(), arguments: json!({"x": 1}) }];
    let template = ChatTemplate::from_source("{{ messages[0] | tojson }}", "", "").unwrap();
    let messages = [message_in_hf_shape(&message)];
    assert_eq!(
        template.render_values(&messages, &[], &RenderOptions::default()).unwrap(),
        concat!(
            r#"{"role": "assistant", "content": "", "reasoning_content": "hm", "thinking": "hm", "tool_calls": "#,
            r#"[{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}, "id": "1"}]}"#
        )
    );
}
