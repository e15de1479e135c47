"""The one format of all tables: what was measured, how many times the floor it costs, the figure, and the floor.

A floor is what cannot be less on this machine, measured in the same run: the ratio says more than the figure, which
depends on the machine and on what else it does.
"""

WIDTH = 60


def print_heading(title, unit="figure"):
    """`unit`: of the figures, if all have the same one."""
    print(f"\n{title:{WIDTH}}{'ratio':>8}{unit:>12}{'floor':>12}", flush=True)


def print_row(what, figure, floor=None, *, is_rate=False, digits=1):
    """`is_rate`: a greater figure is better. The ratio is always that of the cost: less is better."""
    shown = [f"{figure:,.{digits}f}", "", "-"]
    if floor is not None:
        shown[1:] = f"{floor:,.{digits}f}", f"{floor / figure if is_rate else figure / floor:.2f}"
    print(f"{what:{WIDTH}}{shown[2]:>8}{shown[0]:>12}{shown[1]:>12}", flush=True)


def print_note(text):
    """A line without figures: what was left out, and why."""
    print(f"  ({text})", flush=True)
