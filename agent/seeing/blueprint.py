"""How the recording of a run opens: the arm and its plan left, pictures right, plots and maps below them."""

from __future__ import annotations

import rerun.blueprint as rrb


def run_blueprint(cameras: tuple[str, ...], *, decoded: bool, mapped: bool) -> rrb.Blueprint:
    """`decoded`: there are pictures of what is imagined; `mapped`: there are maps of what the eye sees."""
    room = rrb.Spatial3DView(
        origin="world",
        name="the arm, where it was (green), the plan (blue), candidates",
        background=[38, 44, 52],
        eye_controls=rrb.EyeControls3D(
            position=[1.5, -0.85, 0.9], look_target=[0.3, 0.0, 0.26], eye_up=[0, 0, 1]
        ),
    )
    tabs = [_plots(), _ahead(decoded), *([_features(cameras)] if mapped else []), _space()]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(room, rrb.TextLogView(origin="decisions", name="decisions"), row_shares=[4, 1]),
            rrb.Vertical(_pictures(cameras, decoded, mapped), rrb.Tabs(*tabs), row_shares=[6, 5]),
            column_shares=[4, 5],
        ),
        rrb.TimePanel(timeline="step", state="collapsed"),
        rrb.SelectionPanel(state="hidden"),
        rrb.BlueprintPanel(state="hidden"),
    )


def _pictures(cameras: tuple[str, ...], decoded: bool, mapped: bool) -> rrb.Horizontal:
    """One column a kind, the cameras below each other."""
    columns: list[rrb.Container | rrb.View] = [
        rrb.Vertical(*[rrb.Spatial2DView(origin=f"cameras/{name}", name=f"now: {name}") for name in cameras])
    ]
    if decoded:
        columns.append(rrb.Spatial2DView(origin="imagined", name="imagined"))
    if mapped:
        columns.append(rrb.Spatial2DView(origin="differs", name="differences"))
    goals = [rrb.Spatial2DView(origin=f"goals/{name}", name=f"goal: {name}") for name in cameras]
    return rrb.Horizontal(*columns, rrb.Vertical(*goals))


def _plots() -> rrb.Grid:
    right, none = rrb.PlotLegend(corner=rrb.Corner2D.RightTop), rrb.PlotLegend(visible=False)
    views: dict[str, tuple[str, rrb.PlotLegend]] = {
        "energy": ("energy", right),
        "steps_to_go": ("steps to go", none),
        "latent_distance": ("latent distance", none),
        "surprise": ("surprise", none),
        "pose": ("position [m]", none),
        "gripper": ("gripper", none),
        "hand_miss_mm": ("hand off [mm]", right),
        "milliseconds": ("milliseconds", right),
    }
    shown = [
        rrb.TimeSeriesView(origin=f"plots/{key}", name=title, plot_legend=legend)
        for key, (title, legend) in views.items()
    ]
    return rrb.Grid(*shown, grid_columns=4, name="plots")


def _ahead(decoded: bool) -> rrb.Horizontal:
    views = [rrb.Spatial2DView(origin="nearest", name="nearest real frame to the end of the plan")]
    if decoded:
        views.insert(0, rrb.Spatial2DView(origin="ahead", name="end of the plan, imagined (decoded)"))
    return rrb.Horizontal(*views, name="end of the plan")


def _features(cameras: tuple[str, ...]) -> rrb.Grid:
    kinds = {"real": "now", "imagined": "imagined a step ago", "goal": "goal"}
    views = [
        rrb.Spatial2DView(origin=f"features/{name}/{kind}", name=f"{name}: features, {title}")
        for name in cameras
        for kind, title in kinds.items()
    ]
    return rrb.Grid(*views, grid_columns=3, name="feature maps")


def _space() -> rrb.Spatial3DView:
    return rrb.Spatial3DView(origin="space", name="latent path: real (green), imagined (blue), goal")
