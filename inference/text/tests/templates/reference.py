"""Renders every *.jinja of a folder with Python's Jinja2, set up as `transformers` does, and writes the goldens that
tests/templates.rs compares with: for each template and case the SHA-256 of the prompt, or what kind of error it is.

    pip install jinja2 && python reference.py <llama.cpp>/models/templates > goldens.json
    python reference.py <folder> <template> <case>      prints one prompt
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 1, 31, 15, 4, 5)


class Refused(jinja2.exceptions.TemplateError):
    pass


class Generation(Extension):
    """Accepts the training marks and renders what is between them."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def refuse(message):
    raise Refused(message)


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def render(source, case):
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = NOW.strftime
    try:
        return env.from_string(source).render(
            messages=case["messages"],
            tools=case.get("tools"),
            documents=None,
            bos_token="<s>",
            eos_token="</s>",
            **case["variables"],
        )
    except Refused as refused:
        return {"refused": str(refused)}
    except Exception as error:
        return {"error": type(error).__name__}


def golden(result):
    if isinstance(result, str):
        return hashlib.sha256(result.encode()).hexdigest()[:16]
    return result


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((HERE / "cases.json").read_text())
    if len(sys.argv) == 4:
        case = next(case for case in cases if case["name"] == sys.argv[3])
        result = render((folder / sys.argv[2]).read_text(), case)
        print(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False), end="")
        return
    goldens = {}
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text()
        goldens[path.name] = {
            "source": hashlib.sha256(source.encode()).hexdigest()[:16],
            **{case["name"]: golden(render(source, case)) for case in cases},
        }
    lines = (f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in goldens.items())
    print("{\n" + ",\n".join(lines) + "\n}")


main()
