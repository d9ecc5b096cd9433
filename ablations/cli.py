"""fima-ablate: one YAML per table in, trained models, MLflow runs and tables out.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from ablations.plan import Plan

BAD_INPUT, FAILED = 2, 1

app = typer.Typer(
    name="fima-ablate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would triple the time of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="""Which part of FIMA matters? Trains, evaluates and tabulates the paper's ablations.

    A study (studies/*.yaml) is one table: rows, metrics, printed numbers, claims.
    A profile (studies/profiles/*.yaml) says how large: demo takes minutes on
    two cores, with embedded videos; ucf101-i3d is the paper's recipe.

    \b
    A table in minutes, without data or GPU:
      fima-ablate run studies/table3d_beta.yaml

    \b
    The paper's Table 3d on your UCF101 and HMDB51:
      fima-ablate run table3d_beta --profile ucf101-i3d --data-root DIR

    \b
    What all sixteen tables need, share and have done already:
      fima-ablate plan

    \b
    Search beyond the paper's grid, judged on a part of train:
      fima-ablate sweep beta_threshold

    After any interruption the same command goes on: what is done is kept.
    """,
)
data_app = typer.Typer(no_args_is_help=True, help="Check a data set before a run depends on it.")
app.add_typer(data_app, name="data")

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY|KEY=VALUE",
        help="Study files or names (table3d_beta; `all`: every study), and settings that override profile and study: "
        "optim.steps=50, data.name=ucf101, linear.clips=3. fima/config.py declares them; a misspelt one is told.",
        show_default=False,
    ),
]
ProfileName = Annotated[
    str, typer.Option("--profile", "-p", help="How large: a name in studies/profiles, or a file.", show_default=True)
]
DataRoot = Annotated[
    list[str] | None,
    typer.Option(
        "--data-root",
        metavar="[ROLE=]DIR",
        help="Folder of the real videos, for all roles, or ROLE=DIR for one (ucf101, hmdb51, ...). Repeatable.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="0,1,2", help="Default: the study's, else the profile's.", show_default=False),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME,NAME",
        help="lin (linear probe), ft (fine-tuning) or R1, R5, R10, R20 (retrieval) /ucf101 or /hmdb51; parameters, "
        "gpu_days. Default: what both study and profile name.",
        show_default=False,
    ),
]
StoreRoot = Annotated[Path, typer.Option("--store", help="Folder of runs; the truth about what is done.")]
Reports = Annotated[Path, typer.Option("--reports", help="Folder of tables and plots.")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=0, metavar="N", help="Processes per stage that read videos ahead; alters no result."),
]
Track = Annotated[
    bool, typer.Option("--mlflow/--no-mlflow", help="Mirror into MLflow (MLFLOW_TRACKING_URI, else mlflow.db).")
]
PlannedJobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Stages that will run side by side. Default: 2 without a card, else 1.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def run(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Stages side by side; the cores are shared out evenly. Default: as many as --devices are enough for, "
            "else 1 on cards or with --devices-per-run, 2 without; "
            "on Slurm all that are ready, on Ray as many as its cards are enough for.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="0,1",
            help="CUDA cards, one for each stage side by side; more --jobs share them in turns. Default: all cards.",
            show_default=False,
        ),
    ] = None,
    devices_per_run: Annotated[
        int,
        typer.Option(
            "--devices-per-run",
            min=1,
            metavar="K",
            help="Train each pre-training on K cards of its own (torchrun, DDP), or by K processes on the CPU. The "
            "batch is shared out; BatchNorm's statistics are each device's own, and the table says how many.",
        ),
    ] = 1,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray|slurm", help="Where stages run: here, or on a cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT|auto",
            help="Of the Ray cluster, whose machines must see the store's folder. Default: RAY_ADDRESS, else a Ray of "
            "this machine.",
            show_default=False,
        ),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm",
            metavar="KEY=VALUE",
            help="For submitit: partition, time (minutes), gpus_per_node, cpus_per_task, mem, account, ... "
            "cluster=local tries it on this machine. Repeatable.",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        int,
        typer.Option(
            "--retry-failed",
            min=0,
            metavar="N",
            help="Try a failed stage up to N times more before it counts as failed. Another run always tries it again.",
        ),
    ] = 0,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", help="Start no other stage after the first failure; what runs goes on to its end."),
    ] = False,
    workers: Workers = 2,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    track: Track = True,
) -> None:
    """Train and evaluate what is missing, then write the tables.

    Stages that rows or studies share run once. Stop it at any time; the same command goes on.

    \b
    One study, one setting changed, three seeds:
      fima-ablate run table3d_beta optim.steps=500 --seeds 0,1,2

    \b
    Your own videos (a csv with path,label,split, or train/ and test/ folders):
      fima-ablate run table3d_beta data.name=folder data.root=DIR

    \b
    Every table, four stages side by side:
      fima-ablate run all --profile mini --jobs 4

    \b
    Every table on four cards; what a full card or disk broke off is tried again:
      fima-ablate run all --profile ucf101-i3d --data-root DIR \\
        --devices 0,1,2,3 --retry-failed 1

    \b
    The same on a Slurm cluster, each pre-training on three cards; stages go on
    where a time limit cut them:
      fima-ablate run all --profile ucf101-i3d --data-root DIR \\
        --engine slurm --devices-per-run 3 \\
        --slurm partition=gpu --slurm time=1440 --slurm cpus_per_task=16

    \b
    Exit code: 0 all done; 1 some stage failed, the others ran (not with
    --fail-fast) and the table shows what there is; 2 bad input.
    """
    if not words or all("=" in word for word in words):
        raise ValueError("name a study, such as studies/table3d_beta.yaml, or `all`; `fima-ablate list` shows them")
    from rich.console import Console

    from ablations import running

    planned = _plan(words, profile, data_root, seeds, metrics)
    asked = running.Asked(
        jobs, devices, devices_per_run, engine, address, tuple(slurm or ()), retry_failed, fail_fast, workers, store,
        reports, track, command=_command(),
    )  # fmt: skip
    if not running.conduct(asked, planned, Console(stderr=True)):
        raise typer.Exit(FAILED)


@app.command()
def sweep(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP [KEY=VALUE]",
            help="A sweep file or name (beta_threshold, decoder, optimisation, losses), and settings that override "
            "profile and base.",
            show_default=False,
        ),
    ],
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Trials side by side, each a process of its own.")
    ] = 1,
    trials: Annotated[
        int | None, typer.Option("--trials", min=0, metavar="N", help="In all, instead of the sweep's.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="After these no trial is begun; instead of the sweep's.")
    ] = None,
    sampler_seed: Annotated[
        int | None, typer.Option("--sampler-seed", min=0, metavar="N", help="Instead of the sweep's.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Where trials are kept: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, another database, or "
            "journal:FILE on a shared folder. Default: sweeps.db beside the store.",
            show_default=False,
        ),
    ] = None,
    enqueue: Annotated[
        list[str] | None,
        typer.Option("--enqueue", metavar="STUDY", help="Try a study's rows first. Repeatable.", show_default=False),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed trials again, as new ones.")] = False,
    final: Annotated[
        bool, typer.Option("--final/--no-final", help="Compare the best trial with the default on test, in the end.")
    ] = True,
    promote: Annotated[
        Path | None,
        typer.Option("--promote", metavar="STUDY.yaml", help="Append the best trial to a study's rows, in the end."),
    ] = None,
    workers: Workers = 2,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    track: Track = True,
) -> None:
    """Search settings beyond the paper's grid, judged on part of train.

    By Optuna. Test is read once, in the end: best trial and default are compared on it.

    Stop it at any time: the same command goes on; no trial is lost or repeated.
    The same command elsewhere, with the same --storage, joins.

    \b
      fima-ablate sweep beta_threshold --enqueue table3d_beta --jobs 2

    \b
    On a lab's machines, each with its own GPU, sharing a database:
      fima-ablate sweep optimisation --profile ucf101-i3d --data-root DIR \\
        --storage postgresql://...

    \b
    The report alone, of what there is:
      fima-ablate sweep beta_threshold --trials 0 --no-final

    Exit code: 0 all done; 1 a trial or stage failed; 2 bad input.
    """
    from rich.console import Console

    from ablations import conducting, spec

    names, overrides = spec.told_apart(words)
    if len(names) != 1:
        raise ValueError(f"name one sweep, such as beta_threshold; got {', '.join(names) or 'none'}")
    asked = conducting.Asked(
        names[0], profile, tuple(data_root or ()), tuple(overrides), jobs, trials, minutes, sampler_seed, storage,
        tuple(enqueue or ()), retry_failed, final, promote, workers, store, reports, track,
        command=_command(),
    )  # fmt: skip
    if not conducting.conduct(asked, Console(stderr=True), typer.echo):
        raise typer.Exit(FAILED)


@app.command()
def plan(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    jobs: PlannedJobs = None,
    store: StoreRoot = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Show rows and stages, what is shared or done, what time is left.

    Runs nothing. Times are those of equal work in this store, and of the bench command;
    what nobody measured is called unknown. Without a STUDY: all of them.

    \b
    What the paper's recipe would cost on this machine, before it is started:
      fima-ablate bench table3d_beta --profile ucf101-i3d
      fima-ablate plan table3d_beta --profile ucf101-i3d --data-root DIR
    """
    planned = _plan(words, profile, data_root, seeds, metrics)
    from ablations import engines, estimate
    from ablations.store import Store

    truth = Store(store.resolve())
    done = [uid for uid in planned.stages if truth.status(uid).state == "done"]
    needed = estimate.of(planned, truth, jobs or engines.side_by_side())
    if as_json:
        found = planned.as_json(done) | {"estimate": needed.as_json()}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in [*planned.lines(done, every_stage=True), "", *needed.lines()]:
        typer.echo(line)


@app.command()
def bench(
    words: Words = None,
    profile: ProfileName = "demo",
    steps: Annotated[
        int, typer.Option("--steps", min=1, metavar="N", help="Steps to time for each setting, after one to warm up.")
    ] = 3,
    jobs: PlannedJobs = None,
    again: Annotated[bool, typer.Option("--again", help="Also settings that were measured before.")] = False,
    store: StoreRoot = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Time a pre-training step of each row on this machine, for `plan`.

    Trains nothing and needs no data. What is measured is kept in the store's bench.json, by setting,
    device and number of threads. Without a STUDY: all of them.
    """
    from ablations import bench as benching
    from ablations import engines, prepare
    from ablations.store import Store

    prepare.writable("--store", store)
    names = [word for word in words or [] if "=" not in word]
    overrides = [word for word in words or [] if "=" in word]
    say = (lambda line: None) if as_json else typer.echo
    jobs = jobs or engines.side_by_side()
    found = benching.measure(names, profile, overrides, Store(store.resolve()), steps, jobs, again, say)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        typer.echo("no row is pre-trained here: their encoders are given")
    else:
        threads = found[0]["threads"]
        several = "s" * (threads != 1)
        typer.echo(f"on {found[0]['place']}, {threads} thread{several}; fima-ablate plan reckons with these")


@app.command()
def report(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Write tables and plots again from what is there. Runs nothing; missing cells stay empty.

    What is there: results of the store, and those that reports/<profile>/results.jsonl keeps of
    stores that are not here. Without a STUDY: all of which more than half of the rows have
    a result, and report.tex and claims.md.

    \b
    The committed tables of this repository, from their records:
      fima-ablate report --profile mini
    """
    planned = _plan(words, profile, data_root, seeds, metrics, embedded=True)
    from ablations import prepare, publish
    from ablations.store import Store

    prepare.writable("--reports", reports)
    publish.write_studies(planned, Store(store.resolve()), reports, only_measured=not words)


@app.command()
def claims(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    as_json: AsJson = False,
) -> None:
    """Show what the measurements say of each claim of the paper.

    Supported, contradicted or undecided, and why. Measurements are those of the store and
    of reports/<profile>/results.jsonl. Without a STUDY: all of them.

    \b
    The committed evidence, without running anything:
      fima-ablate claims --profile mini
    """
    planned = _plan(words, profile, data_root, seeds, None, embedded=True)
    from ablations import document, publish
    from ablations.store import Store

    tables = publish.build(planned, Store(store.resolve()), reports)
    if as_json:
        print(json.dumps(document.claims_rows(tables), indent=2, ensure_ascii=False))
    else:
        typer.echo(document.claims_text(tables))


@app.command()
def cost(
    words: Words = None,
    profile: ProfileName = "demo",
    measure: Annotated[
        int,
        typer.Option(
            "--measure",
            metavar="N",
            min=0,
            help="Also time N steps of each row on this machine, in turns, on views of noise.",
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show parameters and FLOPs of a pre-training step of each row.

    Trains nothing, needs no data and no GPU: FLOPs and parameters are counted on tensors
    that hold nothing. Without a STUDY: all of them.

    \b
    The paper's parameter counts and relative costs, on any laptop:
      fima-ablate cost table11_cost --profile ucf101-i3d
    """
    from ablations import costing, spec

    names, overrides = spec.told_apart(words or [])
    found = costing.rows(names, profile, overrides, measure)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo(costing.text(found))


@app.command()
def status(
    store: StoreRoot = Path("runs"),
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until nothing runs any more or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            min=0.1,
            metavar="SECONDS",
            help="Between looks of --watch. Default: 2 on a terminal, 30 elsewhere.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which stages are done, running, interrupted or failed.

    Where one runs, at which step and how long still; why one failed. A stage whose
    process is dead is `interrupted`: the same run command goes on with it.

    \b
    From another terminal, while a run goes on:
      fima-ablate status --watch
    """
    from ablations import watching
    from ablations.store import Store

    truth = Store(store.resolve())
    if watch:
        if as_json:
            raise ValueError("--watch is for people and --json for programs, which may ask again themselves; name one")
        from rich.console import Console

        watching.watch(truth, Console(), every)
        return
    rows = watching.Watch(truth).look()
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo(f"{store}: no stages yet; start with fima-ablate run studies/table3d_beta.yaml")
    else:
        typer.echo("\n".join(watching.lines(rows)))


@app.command()
def doctor(
    store: StoreRoot = Path("runs"),
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Put right first what loses nothing: set damaged files aside, remove drafts of dead processes, "
            "end their runs in MLflow, copy what it lacks. Deletes no result.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine all that a run depends on, and say the way out.

    Versions, devices, codecs, cache, disk, the store, MLflow: one line each with
    ok, warning or problem, what it is, where, and the way out.

    Exit code: 0 no problem (warnings are none), 1 problems.
    """
    from ablations import doctor as examination
    from ablations.store import Store

    found = []
    for finding in examination.examine(Store(store.resolve()), fix):
        found.append(finding)
        if not as_json:
            typer.echo(finding.line())
    if as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=2, ensure_ascii=False))
    if any(finding.level == "problem" for finding in found):
        raise typer.Exit(FAILED)


@app.command()
def ui(
    store: StoreRoot = Path("runs"),
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at. 0.0.0.0: reachable under the names in MLFLOW_SERVER_ALLOWED_HOSTS; there is no "
            "password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 5000,
) -> None:
    """Show curves, parameters and tables in MLflow's own pages.

    Until Ctrl-C. Of the database that MLFLOW_TRACKING_URI names, else of mlflow.db beside the store.
    """
    from ablations import ui as pages
    from ablations.store import Store

    code = pages.serve(Store(store.resolve()), host, port, lambda line: typer.echo(line, err=True))
    if code:
        raise typer.Exit(FAILED)


@app.command()
def figures(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY=VALUE", help="STUDY:ROW, a stage of the store, or its folder; side by side."),
    ],
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of a row's pre-training, and of what is chosen.")] = 0,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="NAME,NAME",
            help="activation, affinity, similarity, attention, masks, tsne. Default: every figure.",
            show_default=False,
        ),
    ] = None,
    videos: Annotated[
        str | None, typer.Option("--videos", metavar="[NAME=]DIR", help="Real videos; NAME: a data set's layout.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Videos that a number is averaged over.")] = 50,
    store: StoreRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures.")] = Path("figures"),
) -> None:
    """Draw the paper's figures (3-5, 7-11) of trained rows. Each as PNG, PDF, arrays, with a
    caption and the number that it shows.

    \b
    Two rows side by side, after `fima-ablate run table1_losses`:
      fima-ablate figures "table1_losses:VV" "table1_losses:VV + Pix + Fra"

    \b
    One figure, on real videos:
      fima-ablate figures "table1_losses:VV + Pix" --only affinity \\
        --videos ucf101=DIR

    Exit code: 0 drawn; 2 bad input, such as a row that is not trained.
    """
    from ablations import picturing

    for path, picture in picturing.command(words, profile, data_root or [], seed, only, videos, count, store, out):
        typer.echo(f"{path}\n    {picture.caption}\n")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the studies, the sweeps and the profiles that exist."""
    from ablations import catalogue

    if as_json:
        print(json.dumps(catalogue.as_data(), indent=2, ensure_ascii=False))
        return
    for line in catalogue.lines():
        typer.echo(line)


@app.command()
def sync(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Copy into MLflow what a dead server missed. The store is the truth; nothing is logged twice.

    Without a STUDY: all of them.
    """
    planned = _plan(words, profile, data_root, seeds, metrics)
    from ablations import publish
    from ablations.store import Store
    from ablations.tracking import Tracker

    truth = Store(store.resolve())
    if not truth.uids():
        typer.echo(f"{store}: no stages yet, so there is nothing to copy")
        return
    tracker = Tracker(truth, planned, command=_command())
    whole = tracker.close() and tracker.attach(publish.files(planned, reports))
    if not whole:
        raise typer.Exit(FAILED)
    typer.echo(f"MLflow has what {store} holds")


@data_app.command("check")
def check(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="ucf101, hmdb51, kinetics400, diving48 or folder. Default: seen from the files.",
            show_default=False,
        ),
    ] = None,
    fold: Annotated[int, typer.Option("--fold", min=1, max=3, help="Official split of UCF101 and HMDB51.")] = 1,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decode every video once, report what is wrong, write the index.

    Broken, short, missing, unlisted and mislabelled files are told. Runs on the
    same data later start at once. Stop it at any time; what is indexed stays indexed.

    Exit code: 0 all is well, 1 something was found, 2 bad input.
    """
    from rich.console import Console

    from ablations import prepare
    from fima import check as checking
    from fima.datasets import cores

    with prepare.progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("reading videos", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = checking.run(root, name, jobs or cores(), show, fold)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in found.lines():
            typer.echo(line)
    if not found.clean:
        raise typer.Exit(FAILED)


def _plan(
    words: list[str] | None,
    profile: str,
    roots: list[str] | None,
    seeds: str | None,
    metrics: str | None,
    embedded: bool = False,
) -> Plan:
    """Studies and overrides of a command line, planned. `embedded`: no name means those of embedded videos too."""
    from ablations import plan as planning
    from ablations import spec

    names, overrides = spec.told_apart(words or [])
    paths = spec.find_studies(names)
    if embedded and not names:
        paths += spec.embedded_studies()
    chosen = spec.apply_roots(spec.load_profile(profile), roots or [])
    studies = [spec.load_study(path) for path in paths]
    studies = studies if names and names != ["all"] else planning.measured(studies, chosen)
    return planning.build(studies, chosen, overrides, _seeds(seeds), metrics.split(",") if metrics else None)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        found = sorted({int(part) for part in text.split(",")})
        if found[0] < 0:
            raise ValueError
        return found
    except ValueError:
        raise ValueError(f"--seeds takes whole numbers from 0 up with commas, such as 0,1,2; got {text}") from None


def _command() -> str:
    return shlex.join(["fima-ablate", *sys.argv[1:]])


def _stop(message: str, code: int) -> NoReturn:
    """One line on stderr, no traceback."""
    print(f"fima-ablate: {message}", file=sys.stderr)
    sys.exit(code)


def _wrong_words(error: typer.TyperException) -> str:
    """What a command line holds that no command takes, with the value (typer leaves it out) and where to look."""
    from pydantic import ValidationError  # half the time of --help

    cause, where = error.__cause__, getattr(error, "ctx", None)
    given = cause.errors()[0]["input"] if isinstance(cause, ValidationError) else None
    said = error.format_message().rstrip(".") + (f", got {given}" if given is not None else "")
    return f"{said}{'' if said.endswith('?') else ';'} see {where.command_path if where else 'fima-ablate'} --help"


def main() -> None:
    """Entry point: what the user can mend is one line, what is our fault is a traceback."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(app(prog_name="fima-ablate", standalone_mode=False))
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no command at all; typer gives the class no public name
            typer.echo(error.format_message(), err=True)
            sys.exit(BAD_INPUT)
        _stop(_wrong_words(error), BAD_INPUT)
    except (ValueError, OSError) as error:
        _stop(" ".join(str(error).split()), BAD_INPUT)
    except KeyboardInterrupt:
        _stop("stopped; the same command goes on from here", 130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not break off the tidying up


if __name__ == "__main__":
    main()
