"""Aliases, .forward files, commands and other ways of local delivery (local(8), pipe(8))."""

from __future__ import annotations

from ekiden.config.registry import Bool, Command, Duration, Group, Int, Size, Tables, Template, Text, Words

# Characters that a value may bring into a command's environment or a path; a blank in the text is no member.
_HARMLESS = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Members(Words):
    """A list of words out of a few."""

    def __init__(self, default: str, *members: str, doc: str) -> None:
        super().__init__(default, doc=doc)
        self.members = members

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "list of " + ", ".join(self.members)

    def parse(self, text: str) -> tuple[str, ...]:
        words = super().parse(text)
        if any(word not in self.members for word in words):
            raise ValueError(f"must be a list of {', '.join(self.members)}")
        return words


class LocalParameters(Group):
    # Whom an alias or a .forward file may have mail handed to
    allow_mail_to_commands = _Members(
        "alias, forward", "alias", "forward", "include",
        doc="Where |command is obeyed: in aliases, in .forward files, in files that :include: names.",
    )  # fmt: skip
    allow_mail_to_files = _Members(
        "alias, forward", "alias", "forward", "include",
        doc="Where /file is obeyed: in aliases, in .forward files, in files that :include: names.",
    )  # fmt: skip
    default_privs = Text(
        "nobody",
        doc="The user that commands and files of root's aliases, and those that root asks for, are served as: "
        "a user's name; never root.",
    )
    expand_owner_alias = Bool(
        "no", doc="The sender of mail to a list with an owner- alias is what that alias stands for, not its name."
    )
    owner_request_special = Bool(
        "yes",
        doc="An alias owner-LIST gets the error reports of mail to LIST, and owner-LIST and LIST-request are not split "
        "where recipient_delimiter is a dash.",
    )
    reset_owner_alias = Bool(
        "no", doc="An alias inside of a list that has no owner- alias of its own loses the list's owner."
    )

    # .forward files
    forward_path = Template(
        "$home/.forward${recipient_delimiter}${extension}, $home/.forward",
        doc="Where a user's own delivery instructions may lie; the first file that is there holds. $home, $user, "
        "$shell, $recipient, $local, $extension, $domain and $recipient_delimiter stand for the recipient's.",
    )
    forward_expansion_filter = Text(
        _HARMLESS, doc="Characters that $name may bring into forward_path; all others become underscores."
    )
    forward_file_size_limit = Size(
        "65536", minimum=1, doc="A .forward file larger than this is not read; the mail goes to the mailbox."
    )
    include_file_size_limit = Size(
        "10485760", minimum=1, doc="Mail for a list waits when its :include: file is larger than this."
    )

    # Commands
    mailbox_command = Command(
        "",
        doc="A command that takes the mail of local users in place of a mailbox; it runs as the user, "
        "with HOME, USER, EXTENSION, SENDER ... in its environment.",
    )
    mailbox_command_maps = Tables("", doc="Tables from user to the command that takes that user's mail.")
    local_command_shell = Text(
        "", doc="A program, such as /usr/lib/smrsh -c, that all commands are handed to instead of being run themselves."
    )
    command_execution_directory = Template(
        "", doc="Where commands run, with $home, $user ... as in forward_path. Empty: the queue directory."
    )
    execution_directory_expansion_filter = Text(
        _HARMLESS,
        doc="Characters that $name may bring into command_execution_directory; all others become underscores.",
    )
    command_expansion_filter = Text(
        _HARMLESS, doc="Characters that a command's environment may hold; all others become underscores."
    )
    command_time_limit = Duration(
        "1000s", minimum=1,
        doc="A command that runs longer is killed with all its children, and the mail goes back.",
    )  # fmt: skip
    transport_time_limit = Duration(
        "$command_time_limit", minimum=1,
        doc="The time limit of the commands of a pipe service, written with the service's name: dovecot_time_limit.",
    )  # fmt: skip
    command_output_limit = Size("4096", doc="How much of what a command says is kept for the log and the report.")
    command_concurrency_limit = Int(
        "20", minimum=1, maximum=1000, doc="How many commands run at once for one user; more wait."
    )
    export_environment = Words(
        "TZ MAIL_CONFIG LANG",
        doc="Variables of the server's environment that commands get, by name or as name=value; no others.",
    )

    # Other ways
    mailbox_transport = Text(
        "", doc="A transport of master.cf that takes the mail of all local recipients: lmtp:unix:private/lmtp."
    )
    mailbox_transport_maps = Tables("", doc="Tables from user to the transport that takes that user's mail.")
    fallback_transport = Text("", doc="A transport that takes the mail of local names that are neither alias nor user.")
    fallback_transport_maps = Tables("", doc="Tables from a name that is neither alias nor user to its transport.")
    luser_relay = Template(
        "",
        doc="An address that gets the mail of local names that are neither alias nor user; $user, $local, $extension, "
        "$domain and $recipient stand for the recipient's.",
    )

    # What is written, and what must be there
    prepend_delivered_header = _Members(
        "command, file, forward", "command", "file", "forward",
        doc="Where Delivered-To: is written into mail: for commands, into mailboxes and files, into forwarded mail.",
    )  # fmt: skip
    frozen_delivered_to = Bool(
        "yes", doc="Delivered-To: is the recipient that came; with no it is what aliases made of it."
    )
    require_home_directory = Bool("no", doc="Mail for a user whose home directory is not there waits.")
