"""The import rule and the shape of a stage, as docs/structure.md states them."""

import ast
import functools
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import ALL_FILES, expand, load_contracts
from tests.commands import python

ROOT = Path(__file__).parents[1]
CODE_WIDTH = 130
TEXT = {"STRING", "COMMENT", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END"}
STAGES = sorted(path.parent.name for path in (ROOT / "stages").glob("*/contract.yaml"))


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(file)
        if any(re.match(rf"(ghosttrack\.)?{re.escape(each)}(\.|$)", name) for each in forbidden)
    ]


def test_our_code_has_one_name() -> None:
    """Imported as `common` or `stages` a module would be loaded a second time, beside `ghosttrack.common`."""
    tops = ("common", "stages", "orchestrate")
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder in ("common", "stages", "orchestrate", "tests", "benchmarks", "apptainer")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(file)
        if name.split(".")[0] in tops
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["common", "stages", "orchestrate"])
def test_nothing_imports_the_public_api(folder: str) -> None:
    """It sits above everything: `ghosttrack.api` imports stages and the orchestrator."""
    names = {name for file in (ROOT / folder).rglob("*.py") for name in imports(file)}
    public = {
        "ghosttrack.open",
        "ghosttrack.run",
        "ghosttrack.Run",
        "ghosttrack.Question",
        "ghosttrack.Asked",
    }
    assert not [name for name in names if name in public or re.match(r"ghosttrack\.api(\.|$)", name)]


def test_common_imports_neither_stages_nor_the_orchestrator() -> None:
    assert offences("common", ("stages", "orchestrate")) == []


def test_what_talks_to_slurm_is_imported_in_one_place() -> None:
    found = {each.split()[0] for each in offences("orchestrate", ("orchestrate.slurm",))}
    assert {file for file in found if "/slurm/" not in file} == {"orchestrate/executor.py"}


def test_the_orchestrator_imports_no_stage_and_no_torch() -> None:
    assert (
        offences(
            "orchestrate",
            (
                "stages",
                "torch",
                "transformers",
                "ghosttrack.common.models.language_model",
                "ghosttrack.common.models.sae",
            ),
        )
        == []
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    others = tuple(f"stages.{other}" for other in STAGES if other != stage)
    assert offences(f"stages/{stage}", ("orchestrate", *others)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_shape(stage: str) -> None:
    names = {path.name for path in (ROOT / "stages" / stage).iterdir()}
    assert {"contract.yaml", "__main__.py", "run.py"} <= names


def test_all_stages_are_there_in_order() -> None:
    contracts = load_contracts()
    assert sorted(contract.stage for contract in contracts) == STAGES
    assert [contract.home.name for contract in contracts] == [contract.stage for contract in contracts]
    phases = [contract.phase for contract in contracts if contract.phase is not None]
    assert phases == sorted(set(phases)), "two stages of one phase"


def test_every_read_is_a_file_that_an_earlier_unit_writes() -> None:
    config = load_config("demo", environ={})
    written: dict[str, list[str]] = {}
    for contract in load_contracts():
        for unit in expand(contract, config):
            for read in unit.reads:
                assert read.name in written, f"{unit.label} reads {read.name}, which no earlier unit is"
                if read.files != [ALL_FILES] and written[read.name] != [ALL_FILES]:
                    assert set(read.files) <= set(written[read.name]), f"{unit.label} reads {read.files}"
            written[unit.label] = unit.writes


def test_no_two_units_publish_the_same_name() -> None:
    seen: dict[str, str] = {}
    for contract in load_contracts():
        for unit in expand(contract, load_config("demo", environ={})):
            names = [""] if unit.publishes_folder else [*unit.writes, unit.manifest_name]
            for name in names:
                path = f"{unit.folder}/{name}"
                assert path not in seen, f"{unit.label} and {seen[path]} both publish {path}"
                seen[path] = unit.label


def texts(file: Path) -> Iterator[str]:
    """The texts in a file's code, `{}` for what is put into them."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)


def test_a_published_file_is_named_in_one_module_only() -> None:
    """That of `common/formats` that describes it; contracts name it too. Others take `<FILE>.name` from there."""
    own = ROOT / "common" / "formats"
    names = {
        re.sub(r"{\w+}", "{}", text)
        for module in own.glob("*.py")
        if module.name != "snapshot.py"  # a folder of transformers', as others are
        for text in texts(module)
        if re.fullmatch(r"[\w{}]+\.(json|jsonl|parquet|pt|npy|npz|pkl|csv|png|md)", text)
    }
    assert len(names) > 40
    found = [
        f"{file.relative_to(ROOT)} has {text!r}"
        for folder in ("common", "stages", "orchestrate")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if own not in file.parents
        for text in texts(file)
        if text in names
    ]
    assert found == []


def test_a_class_has_a_name_of_its_own() -> None:
    """Two classes of one name are two meanings of one word."""
    found: dict[str, list[str]] = {}
    for folder in ("common", "stages", "orchestrate", "apptainer", "src/ghosttrack/api"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(tree_of(file)):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert len(found) > 200
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """Counted without its decorators, its signature and its docstring."""
    long = []
    for folder in ("common", "stages", "orchestrate", "apptainer", "src/ghosttrack/api"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(tree_of(file)):
                if isinstance(node, ast.FunctionDef) and (
                    body := node.body[ast.get_docstring(node) is not None :]
                ):
                    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                    if lines >= 80:
                        long.append(f"{file.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []


def test_no_model_s_own_code_is_ever_asked_for() -> None:
    """transformers asks on the terminal whether to run it unless it is told not to, in each call."""
    calls = [
        (f"{file.relative_to(ROOT)}:{node.lineno}", {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords})
        for folder in ("common", "stages", "orchestrate", "src")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if any(name.startswith("transformers") for name in imports(file))
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
        and ast.unparse(node.func.value) != "GenerationConfig"  # numbers alone
    ]  # fmt: skip
    assert len(calls) > 5
    told = {"trust_remote_code": "False"}
    spread = {"common/models/placing.py"}  # whose arguments are one dictionary, of which this is the first
    open_to_it = [
        place
        for place, given in calls
        if not told.items() <= given.items() and place.split(":")[0] not in spread
    ]
    assert open_to_it == []
    assert '{"trust_remote_code": False, ' in (ROOT / "common/models/placing.py").read_text()


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys; from ghosttrack.orchestrate.request import Request; from ghosttrack.orchestrate import cli;"
        "Request.of('demo').plan();"
        "print([name for name in ('torch', 'transformers', 'sklearn', 'pandas', 'datasets') if name in sys.modules])"
    )
    assert python("-c", code, cwd=ROOT).stdout.strip() == "[]"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_describes_itself_without_torch(stage: str) -> None:
    code = (
        "import atexit, sys; sys.argv = ['x', 'describe', '--json'];"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));"
        f"import ghosttrack.stages.{stage}.__main__"
    )
    done = python("-c", code, cwd=ROOT)
    assert done.stderr == "False\n"
    description = json.loads(done.stdout)
    assert description["stage"] == stage
    assert description["contractVersion"] >= 1
    assert description["units"][0]["writes"]
    assert "sae_training" in description["parameterSchema"]["properties"]


@pytest.mark.parametrize("stage", [contract.stage for contract in load_contracts() if not contract.torch])
def test_stages_with_a_slim_image_do_without_torch(stage: str) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"import ghosttrack.stages.{stage}.run"
    )
    python("-c", code, cwd=ROOT)


def test_a_line_of_code_fits_the_screen() -> None:
    """`fmt: skip` keeps columns that belong together; it is not for hiding long lines. Text and comments are not counted."""
    long = []
    for folder in ("common", "stages", "orchestrate", "apptainer", "src/ghosttrack/api"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            content = file.read_text(encoding="utf-8")
            lines = content.splitlines()
            if not any(len(line) > CODE_WIDTH for line in lines):
                continue
            text = dict.fromkeys(range(1, len(lines) + 1), 0)
            for token in tokenize.generate_tokens(io.StringIO(content).readline):
                if tokenize.tok_name[token.type] in TEXT and token.start[0] == token.end[0]:
                    text[token.start[0]] += len(token.string)
                elif tokenize.tok_name[token.type] in TEXT:
                    text |= {row: len(lines[row - 1]) for row in range(token.start[0], token.end[0] + 1)}
            long += [
                f"{file.relative_to(ROOT)}:{row}"
                for row, line in enumerate(lines, 1)
                if len(line) > CODE_WIDTH and text[row] < len(line) / 2
            ]
    assert long == []
