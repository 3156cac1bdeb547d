"""The tests notice mistakes: twenty of those that were once left in, or could have been, tried on a copy of the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants import named
from tests.mutants.areas import AREAS, CHECKOUT, IN_KERNELS, area_of, files_of, in_kernels
from tests.mutants.mutant import Mutant, place_of
from tests.mutants.mutations import mutants_of
from tests.mutants.runner import Reach, Tree, tree

FIXED = [one for one in named.NAMED if one.fixed]


@pytest.fixture(scope="module")
def copy() -> Iterator[Tree]:
    with tree() as made:
        yield made


@pytest.mark.parametrize("mistake", FIXED, ids=lambda mistake: mistake.name)
def test_it_is_noticed_that(copy: Tree, mistake: named.Named) -> None:
    mutant = mistake.mutant()
    result = copy.attempt(mutant, mistake.tests, steady=True)
    assert result.outcome == "killed", f"no test fails with this change of {mutant.path}:\n{mutant.diff}"
    assert result.by.startswith(mistake.tests), f"what failed is not the test that is to: {result.by}"


def test_without_a_mistake_none_of_these_tests_fails(copy: Tree) -> None:
    mutant = FIXED[0].mutant()
    same = type(mutant)(mutant.path, mutant.function, "none", 1, "", mutant.before, mutant.before)
    tests = [test for mistake in FIXED for test in mistake.tests]
    result = copy.attempt(same, tests, steady=True)
    assert result.outcome == "survived", result.by


@pytest.mark.parametrize("name", ["", "::test_there_are_twenty"], ids=["its file", "its function"])
def test_a_test_that_fails_without_the_mutant_too_kills_nothing_however_it_was_named(copy: Tree, name: str) -> None:
    module = copy.folder / "tests" / "unit" / "test_fails.py"
    module.write_text("def test_there_are_twenty():\n    assert False\n\ndef test_others():\n    pass\n")
    mutant = FIXED[0].mutant()
    same = Mutant(mutant.path, mutant.function, "none", 1, "", mutant.before, mutant.before)
    assert copy.attempt(same, ["tests/unit/test_fails.py" + name]).outcome == "survived"


def test_there_are_twenty() -> None:
    assert len(FIXED) == 20


@pytest.mark.parametrize("mistake", named.NAMED, ids=lambda mistake: mistake.name)
def test_each_mistake_with_a_name_fits_the_present_code(mistake: named.Named) -> None:
    mutant = mistake.mutant()
    compile(mutant.after, mutant.path, "exec")
    assert area_of(mutant.path) is not None


def test_the_areas_name_files_that_are_there() -> None:
    for area in AREAS:
        assert files_of(area)
        for path in (*area.modules, *area.tests):
            assert (CHECKOUT / path).exists(), path


def test_the_tests_in_kernels_are_there_for_modules_that_are_there() -> None:
    for module, files in IN_KERNELS.items():
        assert (CHECKOUT / module).exists(), module
        for tests in files:
            assert (CHECKOUT / tests).exists(), tests
    assert in_kernels("agentq_nb/_notebook/dashboard/view.py") == ("tests/kernel/test_dashboard.py",)
    assert in_kernels("agentq_nb/_store/journal.py") == ()


def test_a_line_that_no_test_runs_itself_is_tried_by_those_that_run_its_module_in_kernels(tmp_path: Path) -> None:
    path, here = "agentq_nb/_notebook/completion.py", "tests/unit/notebook/test_here.py::test"
    kernels = "tests/kernel/test_magics_forms.py::"
    tests = [[here, 0.1], [kernels + "test_quick", 1.0], [kernels + "test_slow", 70.0], [kernels + "test_fails", 1.0]]
    recorded = {"tests": tests, "failed": [3], "modules": {path: {"return 1": [0]}}}
    (tmp_path / "reach.json").write_text(json.dumps(recorded))
    reach = Reach([tmp_path / "reach.json"])

    def tried(statement: str, function: str = "f") -> list[str]:
        return [test.id for test in reach.tests(Mutant(path, function, "none", 1, statement, statement, ""))]

    assert tried("return 1") == [here]
    assert tried("return 2") == [kernels + "test_quick"]
    assert tried("WIDTH = 1", function="") == [here, kernels + "test_quick"]


SOURCE = '''
from os import O_CREAT, O_EXCL

class Box:
    def take(self, count=1):
        """Take."""
        if count < 1 or self.closed:
            raise ValueError
        self.taken = count + 1
        try:
            self.tell(count, loud=True)
        finally:
            self.free()
        return [self.taken]
'''


def test_plausible_mistakes_are_found_and_each_compiles() -> None:
    mutants = mutants_of("box.py", SOURCE, frozenset({"loud"}))
    changes = {mutant.changes for mutant in mutants}
    for gone, new in [
        ("if count < 1 or self.closed:", "if count <= 1 or self.closed:"),
        ("if count < 1 or self.closed:", "if not (count < 1 or self.closed):"),
        ("if count < 1 or self.closed:", "if (self.closed):"),
        ("raise ValueError", "pass"),
        ("self.taken = count + 1", "pass"),
        ("self.taken = count + 1", "self.taken = count - 1"),
        ("self.taken = count + 1", "self.taken = count + 0"),
        ("self.tell(count, loud=True)", "pass"),
        ("self.tell(count, loud=True)", "self.tell(count, loud=False)"),
        ("self.tell(count, loud=True)", "self.tell(count)"),
        ("self.free()", "pass"),
        ("return [self.taken]", "return None"),
        ("def take(self, count=1):", "def take(self, count=0):"),
    ]:
        assert ((gone,), (new,)) in changes
    assert len({mutant.id for mutant in mutants}) == len(mutants)
    assert {mutant.function for mutant in mutants} == {"Box.take"}
    assert mutants == mutants_of("box.py", SOURCE, frozenset({"loud"}))


def test_a_line_is_placed_in_its_function_and_statement() -> None:
    assert place_of(SOURCE, 9) == ("Box.take", "self.taken = count + 1")
    assert place_of(SOURCE, 2) == ("", "from os import O_CREAT, O_EXCL")
