"""`tocsin map init`: propose a mapping for a log nobody has mapped, and show what it makes of it.

Enters: a sample. Leaves: TOML on stdout, with the preview and the rejects in its comments; or a file. Layer: faces.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from tocsin.faces import export
from tocsin.faces.options import Flag, UsageError
from tocsin.faces.terminal import Column, make_table, new_console, safe, safe_lines, whole

if TYPE_CHECKING:
    import polars as pl

    from tocsin.sources.propose import MappingProposal

mapping = App(name="map", help="Say how a source's own fields become the standard columns.")
SHOWN_REJECTS = 10
SHOWN_OF_ALERTS = ("created_at", "severity_now", "state", "state_since", "verdict", "assignee", "title")


@mapping.command(
    help_epilogue="Examples:\n  tocsin map init vpn.csv --out vpn.toml\n  tocsin backtest vpn.csv --map vpn.toml\n"
    "  tocsin map init --alerts tickets.csv --out tickets.toml"
)
def init(
    sample: Annotated[
        str,
        Parameter(
            name="SAMPLE",
            allow_leading_hyphen=True,
            help='File, folder, glob, or "-" for stdin; its first megabyte is looked at.',
        ),
    ],
    /,
    *,
    alerts: Annotated[
        bool, Flag, Parameter(help="The sample is a history of alerts, one row an alert or one row an update.")
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Write the mapping to this file instead of printing it.", metavar="FILE.toml")
    ] = None,
    force: Annotated[bool, Flag, Parameter(help="Overwrite the file of --out.")] = False,
    name: Annotated[str | None, Parameter(help="Name of the source. Default: the file's.")] = None,
    zone: Annotated[str | None, Parameter(help="Time zone of times that name none.")] = None,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Propose a mapping from a sample, with ten mapped rows and the rejects.

    The preview is printed as comments: what is printed can be kept as a mapping as it is.
    """
    export.check_target(out, (".toml",))
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists. Name another file, or say --force.")
    proposal = _propose_alerts(sample, name, zone) if alerts else _propose_events(sample, name, zone)
    console = new_console()
    if out is not None:
        export.write_text(proposal.toml, out)
    if json:
        export.print_json("map init", {"file": out, **_values(proposal)})
        return _verdict(proposal, alerts=alerts)
    if out is not None:
        console.print(f"Mapping written to {safe(out)}; use it with --map {safe(out)}")
        console.print("\n".join(_preview(proposal, console.width)))
        return _verdict(proposal, alerts=alerts)
    console.print(safe_lines(proposal.toml), soft_wrap=True)
    for line in _preview(proposal, console.width - 2):
        console.print(f"# {line}".rstrip(), soft_wrap=True)
    return _verdict(proposal, alerts=alerts)


def _verdict(proposal: "MappingProposal", *, alerts: bool) -> int:
    """Return 1, and say why on stderr, where the mapping cannot be used before somebody completes it."""
    missing = [n for n in ("external_id", "created_at") if f'# {n} = "..."' in proposal.toml] if alerts else []
    if not missing:
        return 0
    new_console(stderr=True).print(
        f"tocsin: no field was found for {' and '.join(missing)}: complete the commented lines under [alert].",
        soft_wrap=True,
    )
    return 1


def _propose_events(sample: str, name: str | None, zone: str | None) -> "MappingProposal":
    from tocsin.sources.propose import propose_mapping

    return propose_mapping(sample, name=name, zone=zone)


def _propose_alerts(sample: str, name: str | None, zone: str | None) -> "MappingProposal":
    """Return the proposal for a history of alerts, in the form that is shown: its alerts as they stand are the mapped rows."""
    import polars as pl

    from tocsin.sources import Mapping
    from tocsin.sources.histories import propose_history_mapping
    from tocsin.sources.propose import MappingProposal

    found = propose_history_mapping(sample, name=name, zone=zone)
    read = found.imported
    if read is None:
        return MappingProposal(Mapping(), found.toml, pl.DataFrame(), pl.DataFrame(), 0, 0, found.notes)
    shown = read.history.current.head(10).select("external_id", *SHOWN_OF_ALERTS)
    return MappingProposal(
        Mapping(),
        found.toml,
        shown,
        read.rejected,
        read.counts["read"],
        read.counts["read"] - read.counts["dropped"],
        found.notes,
    )


def _values(proposal: "MappingProposal") -> dict[str, Any]:
    return {
        "mapping": proposal.toml, "notes": list(proposal.notes), "read": proposal.read, "accepted": proposal.accepted,
        "preview": proposal.preview.to_dicts(), "rejects": proposal.rejects.head(SHOWN_REJECTS).to_dicts(),
    }  # fmt: skip


def _preview(proposal: "MappingProposal", width: int) -> list[str]:
    lines = ["", f"{whole(proposal.accepted)} of {whole(proposal.read)} rows of the sample accepted"]
    if proposal.preview.height:
        lines += ["", f"The first {proposal.preview.height} mapped rows:", *_rendered(proposal.preview, width)]
    if proposal.rejects.height:
        shown = proposal.rejects.head(SHOWN_REJECTS)
        lines += [
            "",
            f"{whole(proposal.rejects.height)} rejects, the first {shown.height}:",
            *_rendered(shown.drop("file"), width),
        ]
    return lines


def _rendered(frame: "pl.DataFrame", width: int) -> list[str]:
    """Return a frame as lines; the columns there is no room for are named."""
    import polars as pl

    # Ids say least and go first; of the rest, what stands last. Times, numbers and addresses are never cut.
    ranks = {name: len(frame.columns) if name == "event_id" else rank for rank, name in enumerate(frame.columns)}
    columns = [
        Column(name, safe(name), _cell, rank=ranks[name], least=12 if frame.schema[name] == pl.String else None)
        for name in frame.columns
    ]
    console = Console(
        file=io.StringIO(), width=max(width, 40), markup=False, highlight=False, emoji=False, color_system=None
    )
    console.print(make_table(frame.to_dicts(), columns, console.width))
    return console.file.getvalue().rstrip().splitlines()  # type: ignore[attr-defined, no-any-return]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return safe(", ".join(str(v) for v in value), 32)
    return f"{value:%Y-%m-%d %H:%M:%SZ}" if hasattr(value, "strftime") else safe(value, 32)
