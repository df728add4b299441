"""How the queue lies on disk (the store of a worker's shard)."""

from __future__ import annotations

from ekiden.config.registry import Duration, Group, Int, Reload, Size


class StoreParameters(Group):
    queue_inline_limit = Size(
        "327680",
        maximum=16_777_216,
        reload=Reload.RESTART,
        doc="Messages up to this size lie in the queue's database; larger ones in a file of their own. "
        "A message of this size stays in memory while it is received and delivered.",
    )
    queue_minfree = Size(
        "0",
        doc="The free space in bytes that the file system of the queue must have for mail to be received. "
        "The SMTP server asks for one and a half times message_size_limit in any case.",
    )
    queue_file_buffer_size = Size(
        "524288",
        minimum=4096,
        maximum=16_777_216,
        reload=Reload.RESTART,
        doc="How much of a large message waits in memory for the disk before its sender is made to wait.",
    )
    queue_file_threads = Int(
        "2",
        minimum=1,
        maximum=64,
        reload=Reload.RESTART,
        doc="How many threads of a worker write the files of large messages.",
    )
    queue_commit_delay_milliseconds = Int(
        "10",
        maximum=1000,
        reload=Reload.RESTART,
        doc="How long a commit waits at most for more messages to share it, while several come at a time; on a quick "
        "disk it waits less, a few times as long as commits take.",
    )
    queue_commit_limit = Int(
        "256",
        minimum=1,
        maximum=4096,
        reload=Reload.RESTART,
        doc="The most operations on the queue that are made durable by one commit.",
    )
    queue_log_limit = Size(
        "67108864",
        minimum=1_048_576,
        reload=Reload.RESTART,
        doc="The size of the database's write-ahead log at which its content is copied into the database "
        "even though mail waits; copying goes on at leisure when none does.",
    )
    queue_log_idle_time = Duration(
        "1s",
        reload=Reload.RESTART,
        doc="How long no mail moves before the write-ahead log is copied into the database.",
    )
    queue_cache_size = Size(
        "8388608",
        minimum=262_144,
        reload=Reload.RESTART,
        doc="The memory in bytes that each worker's database may use to keep pages at hand.",
    )
