"""What a pruning did, as a table."""

from __future__ import annotations

import io
from dataclasses import dataclass

from torch_pruning.graph.cost import CostValue
from torch_pruning.planning.plan import Plan
from torch_pruning.recovery.execute import RecoveryReport


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The plan that was carried out; prints as a before/after table."""

    plan: Plan
    recovery: RecoveryReport | None = None

    @property
    def before(self) -> CostValue:
        assert self.plan.before is not None
        return self.plan.before

    @property
    def after(self) -> CostValue:
        assert self.plan.after is not None
        return self.plan.after

    def __str__(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table("", "before", "after", "kept", box=box.SIMPLE)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, before, after in (
            ("parameters", self.before.parameters, self.after.parameters),
            ("MACs", self.before.macs, self.after.macs),
        ):
            table.add_row(name, f"{before:,}", f"{after:,}", f"{after / before:.1%}" if before else "")
        if self.plan.latency is not None:
            of = self.plan.latency
            table.add_row("ms, predicted", f"{of.before:.2f}", f"{of.predicted:.2f}", f"{of.predicted / of.before:.1%}")
            table.add_row("ms, measured", f"{of.before:.2f}", f"{of.measured:.2f}", f"{of.measured / of.before:.1%}")
        inexact = [group for group in self.plan.groups if not group.exact]
        stream = io.StringIO()
        console = Console(file=stream, width=100)
        console.print(table)
        kind = (
            "exact" if not inexact else f"{len(inexact)} inexact, for instance {inexact[0].name}: {inexact[0].reason}"
        )
        console.print(f"{len(self.plan.groups)} groups pruned, {kind}", highlight=False)
        # What a layer keeps from when it was built nobody reads; a config is read by others.
        configs = [str(source) for source in self.plan.unread if len(source.steps) > 1]
        if configs:
            more = f" and {len(configs) - 5} more" if len(configs) > 5 else ""
            listed = ", ".join(configs[:5]) + more
            console.print(f"nothing read, and still as large as what was pruned: {listed}", highlight=False)
        if self.recovery is not None and self.recovery.solved:
            rows = self.recovery.solved
            before, after = (sum(getattr(row, when) for row in rows) / len(rows) for when in ("before", "after"))
            console.print(
                f"{len(rows)} weights solved for: of their outputs' variance {before:.1%} was wrong, {after:.1%} is",
                highlight=False,
            )
        return stream.getvalue()
