"""Delivery into mailboxes (local(8), virtual(8)) and the process that writes them."""

from __future__ import annotations

from ekiden.config.registry import AliasTables, Bool, Duration, Group, Int, Reload, Size, Tables, Text, Words

MAILBOX_LOCKS = ("fcntl", "flock", "dotlock")


class Locks(Words):
    """A list of ways to lock an mbox file; all of them are used, in this list's order of names."""

    kind = "list of fcntl, flock, dotlock"

    def parse(self, text: str) -> tuple[str, ...]:
        words = super().parse(text)
        if not words or any(word not in MAILBOX_LOCKS for word in words):
            raise ValueError("must be one or more of fcntl, flock, dotlock")
        return words


class DeliveryParameters(Group):
    # Where mailboxes lie
    virtual_mailbox_base = Text(
        "", doc="The directory that all virtual mailboxes lie below; what virtual_mailbox_maps gives never leaves it."
    )
    virtual_uid_maps = Tables(
        "", doc="Tables from virtual address to the numeric user that owns the mailbox, such as static:5000."
    )
    virtual_gid_maps = Tables("", doc="Tables from virtual address to the numeric group of the mailbox.")
    virtual_minimum_uid = Int("100", minimum=1, doc="The smallest user number that virtual_uid_maps may give.")
    home_mailbox = Text(
        "",
        doc="A local user's mailbox below the home directory: Maildir/ (with the slash) or a file such as Mailbox. "
        "Empty: the file mail_spool_directory/user.",
    )
    mail_spool_directory = Text("/var/mail", doc="The directory of the local users' mbox files.")

    # How much they may hold
    virtual_mailbox_limit = Size(
        "51200000", doc="The largest virtual mbox file, or message in a virtual Maildir; 0 is no limit."
    )
    mailbox_size_limit = Size("51200000", doc="The largest local mbox file, or message in a Maildir; 0 is no limit.")

    # How they are locked and guarded
    virtual_mailbox_lock = Locks("fcntl, dotlock", doc="How to lock a virtual mbox file before it is written.")
    mailbox_delivery_lock = Locks("fcntl, dotlock", doc="How to lock a local mbox file before it is written.")
    deliver_lock_attempts = Int("20", minimum=1, doc="How often to try to lock an mbox file before mail is deferred.")
    deliver_lock_delay = Duration("1s", doc="The time between two attempts to lock an mbox file.")
    stale_lock_time = Duration("500s", minimum=1, doc="A lock file older than this is removed.")
    strict_mailbox_ownership = Bool("yes", doc="Defer mail for an mbox file that its recipient does not own.")

    # What is written into them, and to whom
    enable_original_recipient = Bool(
        "yes", doc="Write X-Original-To: with the recipient as the sender gave it into delivered mail."
    )
    delivered_header_scan_limit = Size(
        "1048576", minimum=1024, doc="How much of a large message is searched for Delivered-To:, to find mail loops."
    )
    alias_maps = AliasTables(
        "hash:/etc/aliases",
        doc="Aliases of local names. Of a file (hash, btree, lmdb, cdb, dbm, texthash) the text in the form of "
        "aliases(5) is read, directly and whenever it changes; newaliases is not needed.",
    )
    local_alias_recursion_limit = Int("100", minimum=1, doc="How deep aliases may lead to other aliases.")
    local_alias_expansion_limit = Int("1000", minimum=1, doc="How many names and addresses one alias may stand for.")

    # The deliverer process
    deliverer_job_limit = Int(
        "200", minimum=1, maximum=10_000, reload=Reload.RESTART,
        doc="How many mailbox deliveries one worker may have under way; more wait in the worker.",
    )  # fmt: skip
    deliverer_batch_limit = Int(
        "100", minimum=1, maximum=1000, doc="How many messages a mailbox writer makes durable with one wait."
    )
    deliverer_writer_limit = Int(
        "50", minimum=1, maximum=1000, doc="How many mailbox writers, one for each user and group, run at once."
    )
    deliverer_writer_idle_time = Duration("60s", minimum=1, doc="A mailbox writer without work ends after this time.")
    deliverer_writer_timeout = Duration(
        "1000s", minimum=1, doc="A mailbox writer that answers nothing for this time is killed; its mail is deferred."
    )
    deliverer_restart_wait = Duration(
        "10s", doc="How long a delivery waits for a deliverer process that is being restarted before it is deferred."
    )
