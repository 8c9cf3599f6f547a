"""How a state is recognised: its glyph and its hue, the same on every page, in every picture and in print."""

from workflow.states import CaseState

# Drawn around 0,0 within 16 × 16, in the current colour: `stroke` lines, `solid` areas, `paper` is the background.
RING = '<circle class="cw-stroke" r="6.5"/>'
GLYPHS: dict[CaseState, str] = {
    # an empty ring
    CaseState.OPENED: RING,
    # a half-filled ring
    CaseState.INVESTIGATING: f'{RING}<path class="cw-solid" d="M0-6.5a6.5 6.5 0 0 0 0 13z"/>',
    # two sliders
    CaseState.ADJUSTMENT_OFFERED: (
        '<path class="cw-stroke" d="M-7-3.5h14M-7 3.5h14"/>'
        '<circle class="cw-solid" cx="3" cy="-3.5" r="2.75"/><circle class="cw-solid" cx="-3" cy="3.5" r="2.75"/>'
    ),
    # a clock
    CaseState.CONSULTATION_SCHEDULED: f'{RING}<path class="cw-stroke" d="M0-3.75v3.75l2.75 1.75"/>',
    # a gift ribbon, plain
    CaseState.COMPENSATION_ISSUED: (
        '<path class="cw-stroke" d="M-6.5-2.5h13v9h-13zM0-2.5v9M0-2.5c-1.5-4-5-5-5-2.5 0 1.75 2.5 2.5 5 2.5'
        'c2.5 0 5-.75 5-2.5 0-2.5-3.5-1.5-5 2.5"/>'
    ),
    # an arrow that returns
    CaseState.REFUNDED: (
        '<path class="cw-stroke" d="M-2.75-6.5l-3.75 3.75 3.75 3.75M-6-2.75h8.25a4.25 4.25 0 0 1 0 8.5h-5.5"/>'
    ),
    # a filled ring with a tick
    CaseState.CLOSED: '<circle class="cw-solid" r="7.25"/><path class="cw-tick" d="M-3.25.25l2.25 2.25 4.25-4.75"/>',
}

# Each at least 4.5:1 against the paper of its scheme.
LIGHT_HUES: dict[CaseState, str] = {
    CaseState.OPENED: "#475569",  # slate
    CaseState.INVESTIGATING: "#1d4ed8",  # blue
    CaseState.ADJUSTMENT_OFFERED: "#6d28d9",  # violet
    CaseState.CONSULTATION_SCHEDULED: "#0f766e",  # teal
    CaseState.COMPENSATION_ISSUED: "#a16207",  # amber
    CaseState.REFUNDED: "#15803d",  # green
    CaseState.CLOSED: "#57534e",  # grey
}
DARK_HUES: dict[CaseState, str] = {
    CaseState.OPENED: "#a3b3c9",
    CaseState.INVESTIGATING: "#7cb0ff",
    CaseState.ADJUSTMENT_OFFERED: "#bfa3ff",
    CaseState.CONSULTATION_SCHEDULED: "#4fd1c0",
    CaseState.COMPENSATION_ISSUED: "#f0b541",
    CaseState.REFUNDED: "#5fd08a",
    CaseState.CLOSED: "#b5b1ab",
}
