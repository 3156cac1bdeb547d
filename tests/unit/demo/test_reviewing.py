"""The offline reviewer: what it finds in real source, and that no bytes make it raise."""

from __future__ import annotations

import ast
import gc
import os
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import agentq_nb._demo
from agentq_nb._demo import FileReview, review_source, source_files
from agentq_nb._demo.python_code import Finding, Function
from agentq_nb._demo.review import LARGEST


def python(source: str) -> FileReview:
    return review_source("module.py", textwrap.dedent(source).lstrip("\n").encode())


def rules(review: FileReview) -> list[str]:
    return [finding.rule for finding in review.findings]


SUSPICIOUS = {
    "swallowed-error": "try:\n    f()\nexcept Exception:\n    pass\n",
    "bare-except": "try:\n    f()\nexcept:\n    log()\n",
    "mutable-default": "def _f(a, b=[]):\n    return a, b\n",
    "unsafe-call": "eval(text)\n",
    "equals-none": "a = b == None\n",
    "blocks-loop": "async def _f():\n    time.sleep(1)\n",
    "unused-import": "import os\n",
    "no-docstring": "def f():\n    return 1\n",
    "unfinished": "a = 1  # TODO: more\n",
    "warning": "a = '\\d'\n",
    "syntax": "def f(:\n",
}

HARMLESS = {
    "swallowed-error": "try:\n    f()\nexcept KeyError:\n    pass\n",
    "bare-except": "try:\n    f()\nexcept ValueError:\n    log()\n",
    "mutable-default": "def _f(a, b=()):\n    return a, b\n",
    "unsafe-call": "model.eval(text)\n",
    "equals-none": "a = b is None\n",
    "blocks-loop": "async def _f():\n    def g():\n        time.sleep(1)\n    await in_thread(g)\n",
    "unused-import": "from __future__ import annotations\nimport os.path\nimport re as re\n__all__ = ['os']\n",
    "no-docstring": "def _f():\n    def g():\n        return 1\n    return g\n",
    "unfinished": "a = '# TODO: a text'\n",
    "warning": "a = r'\\d'\n",
    "syntax": "def f(): ...\n",
}


@pytest.mark.parametrize("rule", SUSPICIOUS)
def test_each_suspicious_construct_is_found_once(rule: str) -> None:
    assert rules(python(SUSPICIOUS[rule])).count(rule) == 1


@pytest.mark.parametrize("rule", HARMLESS)
def test_the_harmless_relative_of_a_construct_is_not_reported(rule: str) -> None:
    assert rule not in rules(python(HARMLESS[rule]))


def test_complexity_counts_every_kind_of_branch_and_nested_functions_apart() -> None:
    review = python('''
        def outer(a, b):
            """Documented."""
            if a and b or a:                          # + 1 if, + 1 and, + 1 or
                for item in a:                        # + 1
                    while item:                       # + 1
                        item = 1 if b else 2          # + 1
            try:
                a()
            except ValueError:                        # + 1
                b()
            match a:
                case 1:                               # + 1
                    pass
                case 2:                               # + 1
                    pass

            def inner(c):
                return [x for x in c if x]            # + 1, of inner

            return inner
    ''')
    assert [(function.name, function.complexity) for function in review.functions] == [("outer", 10), ("inner", 2)]
    assert review.functions[0] == Function("outer", 1, 10)
    assert "2 functions; the most complex is outer (10, line 1)." in review.summary


def test_findings_carry_the_line_they_are_about() -> None:
    review = python("a = 1\n\n\nb = a == None\n")
    assert review.findings == (Finding(4, "equals-none", "compared with None by == instead of is", serious=True),)


def test_the_summary_says_what_to_look_at_and_what_the_file_is() -> None:
    review = python("""
        def first(items=[]):
            return items == None
    """)
    assert review.summary == (
        "2 problems: default value is shared by all calls (line 1); compared with None by == instead of is (line 2), "
        "and 1 note. 2 lines with 1 function; the most complex is first (1, line 1)."
    )
    assert python("a = 1\n").summary == "Nothing to remark. 1 line."


def test_a_long_list_of_findings_is_cut_in_the_summary_and_kept_whole_beside_it() -> None:
    review = python("".join(f"x{number} = y == None\n" for number in range(10)))
    assert len(review.problems) == 10
    assert "(line 3); 7 more. 10 lines." in review.summary


@pytest.mark.parametrize(
    ("name", "source", "rule", "line"),
    [
        ("a.json", b'{\n"a": }\n', "unreadable", 2),
        ("a.toml", b"a = 1\nb = \n", "unreadable", 2),
        ("a.json", b"[" * 100_000, "unreadable", 1),
        ("a.js", b"a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n", "merge-conflict", 2),
        ("a.txt", b"a\nb\xff\n", "encoding", 2),
        ("a.pem", b"-----BEGIN RSA PRIVATE KEY-----\n", "secret", 1),
        ("a.go", b"// FIXME later\n", "unfinished", 1),
    ],
)
def test_text_files_are_reviewed_as_text(name: str, source: bytes, rule: str, line: int) -> None:
    review = review_source(name, source)
    assert review.kind == "text"
    assert (rule, line) in [(finding.rule, finding.line) for finding in review.findings]


@pytest.mark.parametrize(
    ("source", "kind", "summary"),
    [
        (b"", "empty", "The file is empty."),
        (b" \n\t\n", "empty", "The file is empty."),
        (b"\x7fELF\x00\x01", "binary", "The file is binary: 6 bytes."),
        (b"\xff\x00\x01", "binary", "The file is binary: 3 bytes."),
        (b"x" * (LARGEST + 1), "too large", "The file is too large: 2000001 bytes."),
    ],
)
def test_what_cannot_be_reviewed_is_said_plainly(source: bytes, kind: str, summary: str) -> None:
    review = review_source("a.py", source)
    assert (review.kind, review.summary, review.findings) == (kind, summary, ())


def test_python_in_another_encoding_is_read_as_its_first_line_says() -> None:
    review = review_source("a.py", '# coding: latin-1\nname = "é"\n'.encode("latin-1"))
    assert (review.kind, rules(review)) == ("python", ["encoding"])


SOURCES = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from([*SUSPICIOUS.values(), *HARMLESS.values()]), max_size=6).map(
        lambda n: "".join(n).encode()
    ),
)


@given(st.sampled_from(["a.py", "a.pyi", "__init__.py", "a.json", "a.toml", "a.md", "a", ""]), SOURCES)
@example("a.py", b"# coding: rot13\na = 1\n")
@example("a.py", b"# coding: nonsense\na = 1\n")
@example("a.py", b"a = 1\n# coding: hex\n")
@example("a.py", b"(" * 5000)
@example("a.py", b"-" * 20_000 + b"1")
@example("a.py", b"a = " + b"+".join([b"1"] * 20_000) + b"\n")
@example("a.py", b"a" + b".b" * 20_000 + b"()\n")
@example("a.py", b"a = " + b"9" * 5000 + b"\n")
@example("a.py", b"a = {0x" + b"f" * 5000 + b": 1, 0x" + b"f" * 5000 + b": 2}\n")
@example("a.json", b"9" * 5000)
@example("a.toml", b"a = " + b"[" * 5000)
def test_no_bytes_make_the_reviewer_raise(name: str, source: bytes) -> None:
    review = review_source(name, source)
    assert review.summary.endswith(".")
    assert review.size == len(source)
    assert all(1 <= finding.line <= max(1, review.lines + 1) for finding in review.findings)


def test_reviews_in_many_threads_find_the_same_and_leave_warnings_as_they_were() -> None:
    import warnings

    before = list(warnings.filters)
    source = SUSPICIOUS["warning"].encode()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: rules(review_source("a.py", source)), range(200)))
    assert found == [["warning"]] * 200
    assert list(warnings.filters) == before


def test_source_that_is_parsed_by_other_code_in_the_middle_of_a_review_does_not_disturb_it() -> None:
    source = Path(__file__).read_bytes()
    expected, parsed = review_source("test.py", source), list[ast.AST]()

    class Garbage:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:  # as another thread would, which may go on while garbage is collected
            parsed.append(ast.parse("a = 1"))

    before = gc.get_threshold()
    gc.disable()
    gc.collect()
    try:
        gc.set_threshold(300)  # so that it is collected while the tree is built
        Garbage()
        gc.enable()
        assert review_source("test.py", source) == expected
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert len(parsed) == 1


def test_source_files_are_the_readable_text_files_outside_hidden_and_built_folders(tmp_path: Path) -> None:
    kept = ["README.md", "Makefile", "src/a.py", "src/deep/b.JS"]
    left = [".hidden.py", ".git/c.py", "node_modules/d.js", "x.agentq/e.py", "photo.png", "src/__pycache__/f.py"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "broken.py").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in source_files(tmp_path)] == sorted(kept)
    assert source_files(tmp_path / "missing") == []


def test_the_package_reviews_its_own_source_and_finds_its_functions() -> None:
    folder = Path(agentq_nb._demo.__file__).parent
    reviews = {path.name: review_source(path.name, path.read_bytes()) for path in source_files(folder)}
    assert reviews["python_code.py"].kind == "python"
    assert "examine" in [function.name for function in reviews["python_code.py"].functions]
    assert not [review for review in reviews.values() if "syntax" in rules(review)]
