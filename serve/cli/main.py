"""The ``cyberimage`` command: generate images, look after jobs, start the service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deployments.storage.formats import format_of_file
from deployments.version import package_version
from serve.cli import jobs as job_commands
from serve.cli import keys as key_commands
from serve.cli import queue as queue_commands
from serve.cli import storage as storage_commands
from serve.cli import upkeep as upkeep_commands
from serve.cli.client import DEFAULT_URL, Client, ConnectionLostError, JobStatus, ServiceError
from serve.cli.inputs import read_loras, upload_pictures
from serve.cli.inspection import inspect
from serve.cli.session import (
    FAILURE,
    INTERRUPTED,
    WRONG_USE,
    ApiKey,
    AsJson,
    JobId,
    Url,
    fail,
    plain,
    print_json,
    service,
)

app = typer.Typer(
    name="cyberimage",
    help="Text to image on your own machines: the client of a CyberImage service, and the service itself.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)

app.add_typer(job_commands.app, name="jobs")
app.add_typer(key_commands.app, name="keys")
app.add_typer(queue_commands.app, name="queue")
app.add_typer(storage_commands.app, name="storage")
app.command()(queue_commands.audit)
app.command()(upkeep_commands.backup)
app.command()(upkeep_commands.restore)
app.command()(inspect)


def main() -> None:
    """Run the command line; the exit code is 0, 1 for a failure, 2 for wrong use, 130 for Ctrl-C."""
    app()


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    typer.echo(f"cyberimage {package_version()}")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(  # noqa: PLR0917 - typer makes options of parameters
    prompt: Annotated[str, typer.Argument(help="What the image shows.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write: .png, .webp, .jpg or .avif; several images become out-1.png, out-2.png.",
        ),
    ] = Path("out.png"),
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Of WebP, JPEG and AVIF.")] = None,
    model: Annotated[str | None, typer.Option(help="Model id; the service's default where left out.")] = None,
    negative: Annotated[str, typer.Option(help="What the image should not show.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the image follows the prompt.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same image.")] = None,
    num_images: Annotated[int, typer.Option("--num-images", "-n", min=1, help="How many images.")] = 1,
    image: Annotated[Path | None, typer.Option(help="A picture to start from: PNG, JPEG or WebP.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture of the same size; white parts are repainted.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much of the picture is drawn anew, 0 to 1.")] = None,
    control_image: Annotated[Path | None, typer.Option(help="A picture for the model's ControlNet.")] = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="NAME[:SCALE]", help="A LoRA; may be repeated.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Generate images from PROMPT and write them to files. Ctrl-C cancels the job."""
    paths = output_paths(output, num_images)
    for path in paths:
        _require_writable(path)
    settings = {
        "num_images": num_images,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "width": width,
        "height": height,
        "seed": seed,
        "strength": strength,
        "output_format": format_of_file(output.name),
        "quality": quality,
        "loras": read_loras(lora or []),
    }
    with service(url, api_key) as client:
        inputs = upload_pictures(client, {"image": image, "mask": mask, "control_image": control_image})
        job_id = client.generate(model or _default_model(client), prompt, negative, inputs=inputs, **settings)
        _fetch_images(client, job_id, paths, quiet=quiet)


@app.command()
def replay(
    image_id: Annotated[str, typer.Argument(help="The image's id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("out.png"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make an image again from its recorded parameters and seed. Ctrl-C cancels the job."""
    _require_writable(output)
    with service(url, api_key) as client:
        _fetch_images(client, client.replay(image_id), [output], quiet=quiet)


@app.command()
def models(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List the models of the service."""
    with service(url, api_key) as client:
        answer = client.models()
    if as_json:
        print_json(answer)
        return
    table = Table("Model", "Steps", "Size", "Description")
    for model_id, entry in answer["models"].items():
        mark = " (default)" if model_id == answer.get("default") else ""
        table.add_row(
            Text(plain(model_id) + mark),
            _steps_of(entry),
            _size_of(entry),
            Text(plain(entry.get("description") or "")),
        )
    Console().print(table)


@app.command()
def status(job_id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show where a job stands."""
    with service(url, api_key) as client:
        job = client.status(job_id)
    if as_json:
        print_json(job.raw)
    else:
        _print_facts(job)


@app.command()
def watch(job_id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Follow a job until it ends; the exit code is 1 unless it completes. Ctrl-C leaves it running."""
    try:
        with service(url, api_key) as client:
            job = _print_changes(client, job_id) if as_json else _follow(client, job_id, quiet=False)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        _print_facts(job)
    if job.state != "completed":
        raise typer.Exit(FAILURE)


@app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Cancel a queued or running job."""
    with service(url, api_key) as client:
        sentence = client.cancel(job_id)
    typer.echo(plain(sentence) or f"Job {job_id} is cancelled")


@app.command()
def serve(
    port: Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="The port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    catalog: Annotated[
        Path | None,
        typer.Option(help="Model catalog (YAML); the built-in model where left out."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs and images are kept.")] = None,
) -> None:
    """Start the service on this machine and keep it running until Ctrl-C."""
    # Ray takes seconds to import, and no other command needs it.
    from serve.launcher import launch  # noqa: PLC0415

    raise typer.Exit(launch(host, port, catalog, data_dir))


def output_paths(output: Path, count: int) -> list[Path]:
    """Name the files for ``count`` images: ``out.png`` for one, ``out-1.png``, ``out-2.png`` and so on for several."""
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


def _require_writable(path: Path) -> None:
    """End the command where ``path`` cannot be written; trying it is the only check that is right everywhere."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except (OSError, ValueError) as error:
        fail(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}", WRONG_USE)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"Cannot write {path}: {error.strerror}")


def _default_model(client: Client) -> str:
    default = client.models().get("default")
    if not default:
        fail("The service names no default model; give one with --model")
    return str(default)


def _wait(client: Client, job_id: str, *, quiet: bool) -> JobStatus:
    """Show the job's progress until it ends; Ctrl-C cancels it on the service."""
    try:
        return _follow(client, job_id, quiet=quiet)
    except KeyboardInterrupt:
        _cancel_interrupted(client, job_id)


def _follow(client: Client, job_id: str, *, quiet: bool) -> JobStatus:
    """Show the job's progress until it ends."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, disable=quiet) as bar:
            task = bar.add_task("Submitted", total=None)
            for job in client.watch(job_id):
                bar.update(task, description=_activity_of(job), completed=job.step, total=job.total_steps or None)
    except ConnectionLostError as error:
        fail(f"{error}. The job may still be running; ask later with `cyberimage status {job_id}`")
    return job


def _cancel_interrupted(client: Client, job_id: str) -> NoReturn:
    try:
        client.cancel(job_id)
    except ServiceError as error:
        fail(f"Interrupted, but job {job_id} could not be cancelled: {error}", INTERRUPTED)
    typer.echo(f"Interrupted: job {job_id} is cancelled on the service", err=True)
    raise typer.Exit(INTERRUPTED)


def _fetch_images(client: Client, job_id: str, paths: Sequence[Path], *, quiet: bool) -> None:
    """Wait for a job and write its images to files."""
    status = _wait(client, job_id, quiet=quiet)
    _require_images(status, len(paths))
    for path, image_id in zip(paths, status.image_ids, strict=True):
        _write(path, client.patiently(partial(client.image, image_id)))
    if not quiet:
        for path in paths:
            typer.echo(path)
        if "seed" in status.settings:
            typer.echo(f"seed {status.settings['seed']}", err=True)


def _require_images(job: JobStatus, count: int) -> None:
    if job.state == "failed":
        fail(job.message or f"Job {job.id} failed")
    if job.state == "cancelled":
        fail(job.message or f"Job {job.id} was cancelled")
    if len(job.image_ids) != count:
        fail(f"Job {job.id} was to make {count} images, and has {len(job.image_ids)}")


def _activity_of(job: JobStatus) -> str:
    """Say what the job does now, for a person who waits."""
    eta = job.raw.get("eta_seconds")
    left = f", some {max(1, round(eta))} s left" if eta is not None else ""
    if job.state == "pending":
        return "Queued" if job.queue_position is None else f"Queued, position {job.queue_position}{left}"
    if job.state == "processing" and job.step:
        return f"Step {job.step} of {job.total_steps}{left}"
    if job.state == "processing":
        return "Loading the model" if (job.raw.get("progress") or {}).get("loading_model") else "Preparing"
    return job.state.capitalize()


def _facts_of(job: JobStatus) -> list[tuple[str, str]]:
    """List what ``status`` shows of a job, name and value."""
    facts = [("Job", job.id), ("Status", job.state)]
    if job.state == "processing" and job.total_steps:
        facts.append(("Step", f"{job.step} of {job.total_steps}"))
    if job.queue_position is not None:
        facts.append(("Queue position", str(job.queue_position)))
    facts += [("Model", str(job.raw.get("model_id", ""))), ("Prompt", str(job.raw.get("prompt", "")))]
    if job.message:
        facts.append(("Message", job.message))
    facts += [("Image", f"/api/image/{image_id}") for image_id in job.image_ids]
    return facts


def _steps_of(entry: dict[str, Any]) -> str:
    config = entry.get("step_config") or {}
    if "fixed_steps" in config:
        return f"{config['fixed_steps']} (fixed)"
    steps = config.get("steps")
    return f"{steps['min']}-{steps['max']} ({steps['default']})" if steps else ""


def _size_of(entry: dict[str, Any]) -> str:
    size = entry.get("size")
    return f"{size['default_width']}x{size['default_height']}" if size else ""


def _print_changes(client: Client, job_id: str) -> JobStatus:
    """Print a line of JSON at each change of a job."""
    for job in client.watch(job_id):
        typer.echo(json.dumps(job.raw))
    return job


def _print_facts(job: JobStatus) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in _facts_of(job):
        table.add_row(Text(name, style="dim"), Text(plain(value)))
    Console().print(table)
