"""The processes of the server and how they are controlled (master(8))."""

from __future__ import annotations

from ekiden.config.registry import Duration, Group, Int, Reload, Size


class ProcessParameters(Group):
    service_throttle_time = Duration(
        "60s",
        minimum=1,
        doc="The longest wait before a process that keeps dying is started again; the wait begins at 0.1 seconds and "
        "doubles, and begins anew once the process has lived this long.",
    )
    process_start_timeout = Duration(
        "30s", minimum=1, reload=Reload.RESTART, doc="How long the processes may take to be ready at start."
    )
    process_kill_delay = Duration(
        "5s", doc="How long after stop_timeout a process that has not ended gets SIGTERM, and again until SIGKILL."
    )
    control_timeout = Duration(
        "60s", minimum=1, doc="How long a command waits for the answer of a worker, and a worker for a whole request."
    )
    control_message_limit = Size(
        "16777216", minimum=65536, doc="The most bytes of one request or answer on a control socket."
    )
    control_listing_limit = Int(
        "1000", minimum=1, doc="The most messages in one answer of a control socket; more come page by page."
    )
    control_head_limit = Size("65536", doc="How much of a message's content `ekiden queue show` gets.")
    control_connection_limit = Int("20", minimum=1, doc="How many commands may talk to one worker at a time.")
