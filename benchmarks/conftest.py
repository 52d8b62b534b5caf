"""What every benchmark uses: the timing fixture, the limits of the machine, the report.

README.md says how to run the benchmarks.
"""

import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import describe_changes
from benchmarks.deadline import Deadline, OutOfTime
from benchmarks.machine import describe, folder_name, measure_limits
from benchmarks.ops import Op, agree, evaluate, prepare
from benchmarks.records import Record, Results
from benchmarks.report import write_report
from benchmarks.roofline import Limits, Work
from benchmarks.targets import CPU, GPU, baselines_of
from unianimate.models.devices import keep_freed_memory
from unianimate.profiling import peak_bytes
from unianimate.profiling.timing import Timing, calls_a_round, rounds_within, time_calls
from unianimate_kernels._dispatch import backends_of, ops

Measure = Callable[..., float]

# what answers more than single ops do
_ORDER = ("bench_unet3d", "bench_longest_clip", "bench_pipeline", "bench_blocks")
# seconds to spend on one figure, and on one that is timed in turn with others
_BUDGET = {"smoke": 0.0, "cpu": 0.3, "gpu": 0.05}
_IN_TURN_BUDGET = {"smoke": 0.0, "cpu": 5.0, "gpu": 0.2}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("benchmarks")
    group.addoption("--smoke", action="store_true", help="tiny shapes, once: a trial")
    group.addoption("--scale", choices=("cpu", "gpu"), help="sizes; those of this device if not")
    group.addoption("--results", type=Path, help="write the report to a folder in this one")
    group.addoption("--require-gpu", action="store_true", help="refuse to run on a CPU")
    group.addoption("--deadline", type=float, help="stop after so many seconds")


def pytest_configure(config: pytest.Config) -> None:
    """Choose device and scale."""
    config.option.benchmark_columns = ["median", "iqr", "rounds"]
    config.option.benchmark_sort = "median"
    # a benchmark that runs out of memory never comes to use the fixture
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Benchmark fixture was not used:pytest_benchmark.logger.PytestBenchmarkWarning",
    )
    config.stash[_RUN] = Run(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a benchmark its cases: those of the module's `OP`, or of its function `cases`."""
    scale = metafunc.config.stash[_RUN].scale
    module: Any = metafunc.module
    if "case" in metafunc.fixturenames:
        cases = module.OP.cases(scale) if hasattr(module, "OP") else module.cases(scale)
        metafunc.parametrize("case", cases, ids=lambda case: "-".join(map(str, case)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Put what the aims compare first, then models, then small sizes: time may run out.

    What is compiled comes late, because it takes minutes: networks before the sizes of ops that
    are apart, ops last of all.
    """
    aims = {target.group for target in (*CPU, *GPU)}
    on_gpu = config.stash[_RUN].scale == "gpu"

    def place(item: Any) -> tuple[int, int, int]:
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        op, stem = getattr(item.module, "OP", None), item.path.stem
        compiled, group = "compiled" in item.name, None
        if not isinstance(case, tuple):  # no case of its own, or none at this scale
            pass
        elif op is not None:
            group = op.group(*case[:3])
        elif hasattr(item.module, "group"):
            group = item.module.group(*case[:-1])
        order = _ORDER.index(stem) if op is None else len(_ORDER)
        if group in aims and not compiled:
            return 0, order, 0
        if op is None:
            return (3 if compiled else 1), order, 0
        if group is None:
            return 5, order, 0
        apart = on_gpu and case[0].apart
        return (5 if compiled else 4 if apart else 2), order, case[0].numbers

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Give up the figure that is under way when the time of the run is over."""
    with item.config.stash[_RUN].deadline.enforced():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note what there was no time for."""
    if call.excinfo is not None and call.excinfo.errisinstance(OutOfTime):
        item.config.stash[_RUN].missed.append(item.name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Measure the limits of the machine, at the start."""
    if not session.config.option.collectonly:
        session.config.stash[_RUN].start()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report."""
    paths = {Path(argument).resolve() for argument in session.config.args}
    part = session.config.option.keyword or paths != {Path(__file__).resolve().parent}
    interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
    session.config.stash[_RUN].finish(whole=not (part or interrupted))


class Run:
    """One run of the benchmarks.

    Attributes:
        device: where everything is computed.
        scale: "smoke", "cpu" or "gpu".
        deadline: of the run.
        limits: of the machine, once `start` has measured them.
        records: the figures so far.
        missed: benchmarks that there was no time for.
    """

    limits: Limits

    def __init__(self, config: pytest.Config) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if config.option.require_gpu and self.device.type != "cuda":
            raise pytest.UsageError("torch sees no GPU here; `make bench` measures the CPU")
        self.smoke: bool = config.option.smoke
        own = {"cpu": "cpu", "cuda": "gpu"}[self.device.type]
        self.scale = "smoke" if self.smoke else config.option.scale or own
        self.budget = _BUDGET[self.scale]
        self.in_turn_budget = _IN_TURN_BUDGET[self.scale]
        self.fewest = 1 if self.smoke else 3
        self.records: list[Record] = []
        self.missed: list[str] = []
        self._works: dict[tuple[str, str], Work] = {}
        self._results: Path | None = config.option.results
        self.deadline = Deadline(config.option.deadline)
        if self.device.type == "cpu":
            keep_freed_memory()

    @cached_property
    def machine(self) -> dict[str, Any]:
        """What the machine is and runs."""
        return describe(self.device)

    def start(self) -> None:
        """Measure the limits before anything else runs."""
        self.limits = measure_limits(self.device, smoke=self.smoke)

    def add(self, record: Record, work: Work | None = None) -> None:
        """Keep a figure, beside the limit for its work."""
        if work is not None:
            self._works[record.key] = work
            record = self._beside(self.limits, record)
        self.records.append(record)

    def _beside(self, limits: Limits, record: Record) -> Record:
        work = self._works.get(record.key)
        if work is None:
            return record
        bound = limits.bound(work)
        return replace(
            record,
            bytes=work.bytes,
            flops=work.flops,
            exps=work.exps,
            bound_seconds=bound.seconds,
            bound_by=bound.by,
        )

    def finish(self, *, whole: bool) -> None:
        """Write the report, and say what changed since the last one.

        Args:
            whole: all benchmarks were asked for; what is of a part is not written over a report.
        """
        if self._results is None or not self.records:
            return
        # again: at the start something else may have kept the machine busy
        limits = self.limits.better(measure_limits(self.device, smoke=self.smoke))
        records = [self._beside(limits, record) for record in self.records]
        now = Results(self.machine, asdict(limits), records, self.missed)
        device = self._results / folder_name(self.machine)
        folder = self._results / "smoke" if self.smoke else device
        if not whole:
            folder = self._results / "part"
        changed = _changes(device / "results.json", now)
        write_report(now, folder)
        print(f"\n{changed}")
        print(f"\nwrote {folder}/README.md, after {self.deadline.passed:.0f} s")


def _changes(stored: Path, now: Results) -> str:
    """Say what changed since the stored results, if they can be read."""
    if not stored.exists():
        return "nothing to compare with"
    try:
        return describe_changes(Results.load(stored), now)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{stored}: cannot be compared with: {error}"


_RUN = pytest.StashKey[Run]()


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """Return the run; skip if its time is over."""
    whole = request.config.stash[_RUN]
    whole.deadline.check()
    return whole


@pytest.fixture
def measure(benchmark: BenchmarkFixture, run: Run) -> Measure:
    """Return ``measure(section, group, form, fn, ...)``, which times ``fn()``.

    ``group`` gathers what is compared, ``form`` says who did it. ``fn`` is called once to warm it
    up (``warm=True``: it was), then as often as the budget allows, at least three times, and waits
    for the GPU; what is short there is called several times a round (``calls`` in extra_info).
    ``work`` adds the limit of the machine, ``peak`` the memory. What is in ``others`` is called
    before every round of ``fn`` and gives ratios, which a change of the machine's speed between two
    figures does not touch. Other keywords are stored beside the figures. One call a test; returns
    the median in seconds.
    """

    def once(fn: Callable[[], object], calls: int = 1) -> float:
        return time_calls(fn, run.device, calls)

    def measure(
        section: str,
        group: str,
        form: str,
        fn: Callable[[], object],
        *,
        work: Work | None = None,
        frames: int | None = None,
        peak: bool = False,
        warm: bool = False,
        others: Mapping[str, Callable[[], object]] | None = None,
        **extra: Any,
    ) -> float:
        if not warm and not peak:
            once(fn)
        start = time.perf_counter()
        most = peak_bytes(fn, run.device) if peak else None
        # counting slows a call a little, which errs on the side of fewer rounds
        estimate = time.perf_counter() - start if peak else once(fn)
        calls = calls_a_round(run.device, estimate)
        budget, a_round = run.budget, calls * estimate
        if others:
            budget = run.in_turn_budget
            a_round += estimate + calls * sum(once(other) for other in others.values())
        rounds = rounds_within(budget, a_round, fewest=run.fewest)
        before: list[dict[str, float]] = []

        def in_turn() -> None:
            if others:
                before.append({form: once(other, calls) for form, other in others.items()})
                once(fn)  # what the others put out of the caches comes back

        benchmark.group = group
        benchmark.pedantic(partial(once, fn, calls), setup=in_turn, iterations=1, rounds=rounds)
        seconds = [of_round / calls for of_round in benchmark.stats.stats.data]
        timing = Timing.of(seconds)
        record = Record(
            section=section,
            group=group,
            form=form,
            seconds=timing.median,
            low=timing.low,
            high=timing.high,
            rounds=timing.rounds,
            ratios={
                form: statistics.median(
                    turn[form] / own for turn, own in zip(before, seconds, strict=True)
                )
                for form in others or {}
            },
            frames=frames,
            peak_bytes=most,
            extra={name: str(value) for name, value in extra.items()},
        )
        run.add(record, work)
        kept = run.records[-1]
        benchmark.extra_info.update(
            {
                **asdict(kept),
                "fraction": kept.fraction,
                "calls": calls,
                "machine": run.machine,
                "limits": asdict(run.limits),
            }
        )
        return timing.median

    return measure


@pytest.fixture
def measure_op(measure: Measure, run: Run) -> Callable[[Op, tuple[Any, ...]], None]:
    """Return ``measure_op(op, case)``: assert that a form agrees with the reference, and time it.

    What does not fit the memory of a GPU is recorded as that.
    """

    def measure_op(op: Op, case: tuple[Any, ...]) -> None:
        shape, dtype, direction, form = case
        group, call = op.group(shape, dtype, direction), op.forms[form]

        def leave_out(note: str) -> NoReturn:
            run.add(Record(section="ops", group=group, form=form, note=note))
            pytest.skip(note)

        try:
            given = prepare(op, shape, dtype, direction, run.device)
        except torch.OutOfMemoryError:
            leave_out("out of memory in the reference, which it has to agree with")
        try:
            got, grads = evaluate(call, given.leaves, given.cotangent)
            agree(got, given.want, f"{form}, {group}")
            for i, (grad, want) in enumerate(zip(grads, given.want_grads, strict=True)):
                agree(grad, want, f"gradient {i} of {form}, {group}")
            del got, grads
            measure(
                *("ops", group, form, partial(evaluate, call, given.leaves, given.cotangent)),
                work=op.work(shape, dtype.itemsize, direction == "both"),
                others={
                    name: partial(evaluate, op.forms[name], given.leaves, given.cotangent)
                    for name in baselines_of(group, form)
                },
                frames=shape.frames,
                warm=True,
                op=op.name,
                shape=shape,
                dtype=dtype,
                direction=direction,
            )
        except NotImplementedError as refusal:  # how xformers says that it has no kernel for it
            known = backends_of(op.name) if op.name in ops() else {}
            if form not in known or known[form].automatic:
                raise
            leave_out(f"refused: {str(refusal).splitlines()[0]}")
        except torch.OutOfMemoryError:
            leave_out("out of memory")

    return measure_op
