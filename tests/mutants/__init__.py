"""Mistakes made on purpose, to see whether the tests notice: ``python -m tests.mutants``.

First ``python -m tests.mutants --record`` runs the tests of all areas once and notes which lines each of them runs
(``reach``, with coverage.py). Then ``python -m tests.mutants`` takes ``--count`` mutants by ``--seed``, shared out among
the areas (``areas``), and tries each: its module is changed in a copy of the checkout in a temporary folder, and the
tests that run the changed line are run there until one fails, quick ones first, for as long as some 90 seconds of tests
take (``runner``). What kernels run, which are other processes, is not recorded: a line of ``_notebook`` that no test runs
in its own process is tried by the tests that ``areas`` names for its module. A mutant that makes them take three times as long is killed, too. A test that fails is run once more
without the mutant: one that then fails as well has killed nothing.

Results are kept in ``artefacts/mutants.jsonl``, by the changed module's path and text, so a run that was stopped goes on
where it was, and only what has changed is tried again. ``--again`` tries earlier survivors again, after a test was
written. ``--area`` looks at one area. ``--entries`` prints what belongs into ``explained.toml`` for a survivor that
changes nothing anyone could see, or nothing that matters: give the reason there. It is then listed apart.

``named`` has mistakes with names, each of which breaks one promise: ``--named`` tries them all, and
``tests/unit/test_mutants.py`` tries the twenty ``fixed`` ones whenever the tests run.

Why no library: mutmut rewrites each function into many, which what reads classes, signatures and source here would
notice, and does not mutate what is outside functions; cosmic-ray changes the checkout itself and has one test command for
all. Neither drops statements or picks a sample, and a kernel or a child process would not see the mutants of the first.

To mutate more, add operators to ``mutations`` (each is a replacement of bytes, found on the syntax tree) or modules and
tests to ``areas``. Paths are written in ``areas``, ``named`` and ``explained.toml`` only, as text.
"""
