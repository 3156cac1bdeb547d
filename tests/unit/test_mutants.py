"""The tests notice mistakes: twenty of those that were once left in, or could have been, tried on a copy of the package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutants import named
from tests.mutants.areas import AREAS, CHECKOUT, area_of, files_of
from tests.mutants.mutant import place_of
from tests.mutants.mutations import mutants_of
from tests.mutants.runner import Tree, tree

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
