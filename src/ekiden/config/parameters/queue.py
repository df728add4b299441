"""The queue, its scheduler and bounces (qmgr(8), bounce(8))."""

from __future__ import annotations

import math
import re

from msgspec import Struct

from ekiden.config.registry import Bool, Duration, Group, Int, Parameter, Size, Tables, Text, Words


class FeedbackAmount(Struct, frozen=True):
    """How much one delivery moves the concurrency of its destination: ``amount / divisor(window)``."""

    amount: float
    per: str = ""  # "", "concurrency" or "sqrt_concurrency"

    def at(self, window: int) -> float:
        if self.per == "concurrency":
            return self.amount / max(window, 1)
        if self.per == "sqrt_concurrency":
            return self.amount / math.sqrt(max(window, 1))
        return self.amount


class Feedback(Parameter[FeedbackAmount]):
    kind = "number from 0 to 1, or number / concurrency, or number / sqrt_concurrency"

    def parse(self, text: str) -> FeedbackAmount:
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(?:\s*/\s*(concurrency|sqrt_concurrency))?", text)
        if found is None or float(found[1]) > 1:
            raise ValueError("must be a " + self.kind)
        return FeedbackAmount(float(found[1]), found[2] or "")


class QueueParameters(Group):
    # The active set: what is in memory.
    qmgr_message_active_limit = Int(
        "20000", minimum=1, doc="The most messages that a worker has in memory for delivery; others wait in the store."
    )
    qmgr_message_recipient_limit = Int(
        "20000", minimum=1, doc="The most recipients, of all messages together, that a worker has in memory."
    )
    qmgr_active_content_limit = Size(
        "67108864",
        minimum=65_536,
        doc="The most bytes of message content that a worker keeps in memory for delivery; content that lies in a "
        "file of its own does not count.",
    )
    qmgr_claim_limit = Int("200", minimum=1, doc="The most waiting messages that are taken from the store at once.")
    qmgr_lease_time = Duration(
        "1h",
        minimum=60,
        doc="How long a message belongs to the worker that took it up; a store that several hosts share gives it to "
        "another one afterwards.",
    )
    qmgr_resolve_limit = Int("50", minimum=1, doc="How many messages may wait for their routes at the same time.")
    qmgr_notice_limit = Int("20", minimum=1, doc="How many delivery status notifications are composed at once.")
    qmgr_clog_warn_time = Duration(
        "300s", doc="The least time between warnings that one destination fills the active queue; 0 turns them off."
    )
    qmgr_interim_settle_time = Duration(
        "1s",
        doc="How long a message of which a part is delivered waits for its other deliveries before that part is made "
        "durable. It bounds what a crash may deliver twice.",
    )
    qmgr_interim_settle_recipients = Int(
        "10", minimum=1, doc="A delivery to this many recipients of a message is made durable as soon as it is over."
    )
    qmgr_settle_retry_time = Duration(
        "1s", minimum=1, doc="The wait before results that the store could not take are offered to it again."
    )
    qmgr_settle_retry_limit = Duration("60s", minimum=1, doc="The longest such wait; it doubles up to here.")
    qmgr_idle_destination_limit = Int(
        "10000", minimum=100, doc="How many destinations are remembered before those without mail are forgotten."
    )

    # Retries.
    queue_run_delay = Duration(
        "300s", minimum=1, doc="The longest time between two looks for messages in the store that are due."
    )
    queue_run_message_limit = Int(
        "0",
        doc="The most messages that a worker takes from the store within one queue_run_delay; 0 is no limit. New mail "
        "that is delivered at once does not count. This is sendmail's confMAX_QUEUE_RUN_SIZE.",
    )
    queue_load_average_limit = Int(
        "0",
        doc="From this load average of the host on, mail is only queued, and delivered when the load has fallen; 0 "
        "never. This is sendmail's confQUEUE_LA.",
    )
    minimal_backoff_time = Duration(
        "300s",
        minimum=1,
        doc="The least time between two attempts for a message, and how long a destination that does not answer is "
        "left alone.",
    )
    maximal_backoff_time = Duration("4000s", minimum=1, doc="The most time between two attempts for a message.")
    backoff_jitter_percent = Int(
        "10",
        maximum=100,
        doc="Up to this part of the time to the next attempt is added to it at random, so that messages that were "
        "deferred together do not come back together.",
    )
    maximal_queue_lifetime = Duration(
        "5d", unit="d", doc="How old a message may get before it is returned to its sender. 0: one attempt only."
    )
    bounce_queue_lifetime = Duration(
        "5d", unit="d", doc="How old a message from the null sender may get before it is given up."
    )
    delay_warning_time = Duration(
        "0h", unit="h", doc="The age at which the sender of a message is told that it waits. 0: never."
    )

    # Concurrency.
    initial_destination_concurrency = Int(
        "5", minimum=1, doc="How many deliveries to a destination run in parallel at first."
    )
    default_destination_concurrency_limit = Int(
        "20", doc="The most parallel deliveries to a destination (TRANSPORT_destination_concurrency_limit). 0: any."
    )
    default_destination_recipient_limit = Int(
        "50", doc="The most recipients in one delivery (TRANSPORT_destination_recipient_limit); 0: no limit."
    )
    default_destination_concurrency_positive_feedback = Feedback(
        "1", doc="How much a delivery to a destination that answers raises the concurrency there."
    )
    default_destination_concurrency_negative_feedback = Feedback(
        "1", doc="How much a delivery to a destination that does not answer lowers the concurrency there."
    )
    default_destination_concurrency_failed_cohort_limit = Int(
        "1",
        doc="How many times the whole concurrency of a destination must fail before it is left alone for "
        "minimal_backoff_time. 0: never.",
    )
    default_process_limit = Int(
        "100",
        minimum=1,
        doc="The most parallel deliveries of one transport in a worker, where its line of master.cf has no maxproc.",
    )
    default_destination_rate_delay = Duration(
        "0s",
        doc="The time between two deliveries to one destination (TRANSPORT_destination_rate_delay); with one, never "
        "more than one delivery runs there.",
    )
    default_transport_rate_delay = Duration(
        "0s",
        doc="The least time between the beginnings of two deliveries by one transport, wherever they go "
        "(TRANSPORT_transport_rate_delay).",
    )
    defer_transports = Words("", doc="Transports whose mail waits in the queue until an administrator flushes it.")
    soft_bounce = Bool(
        "no",
        doc="For tests of a configuration: mail that would be returned stays in the queue, and clients are told to "
        "come back (4yz) where they would be refused.",
    )
    default_delivery_status_filter = Tables(
        "",
        doc='Tables from "status text" of a delivery\'s result to the status and text that stand for it: a failure may '
        "become a delay and the other way round, a delivery stays one.",
    )
    smtp_delivery_status_filter = Tables(
        "$default_delivery_status_filter", doc="default_delivery_status_filter for transports that run smtp."
    )
    lmtp_delivery_status_filter = Tables("", doc="default_delivery_status_filter for transports that run lmtp.")
    local_delivery_status_filter = Tables(
        "$default_delivery_status_filter", doc="default_delivery_status_filter for transports that run local."
    )
    virtual_delivery_status_filter = Tables(
        "$default_delivery_status_filter", doc="default_delivery_status_filter for transports that run virtual."
    )
    pipe_delivery_status_filter = Tables(
        "$default_delivery_status_filter", doc="default_delivery_status_filter for transports that run pipe."
    )
    relay_destination_concurrency_limit = Int(
        "$default_destination_concurrency_limit", doc="The most parallel deliveries by relay to one next hop."
    )
    relay_destination_recipient_limit = Int(
        "$default_destination_recipient_limit", doc="The most recipients in one delivery by relay."
    )
    smtp_destination_concurrency_limit = Int(
        "$default_destination_concurrency_limit", doc="The most parallel deliveries by smtp to one next hop."
    )
    smtp_destination_recipient_limit = Int(
        "$default_destination_recipient_limit", doc="The most recipients in one delivery by smtp."
    )
    lmtp_destination_concurrency_limit = Int(
        "$default_destination_concurrency_limit", doc="The most parallel deliveries by lmtp to one next hop."
    )
    lmtp_destination_recipient_limit = Int(
        "$default_destination_recipient_limit", doc="The most recipients in one delivery by lmtp."
    )
    virtual_destination_concurrency_limit = Int(
        "$default_destination_concurrency_limit", doc="The most parallel deliveries by virtual to one domain."
    )
    virtual_destination_recipient_limit = Int(
        "$default_destination_recipient_limit", doc="The most recipients in one delivery by virtual."
    )
    local_destination_concurrency_limit = Int(
        "2", doc="The most parallel deliveries by local to one recipient (to one domain, if a delivery has several)."
    )
    local_destination_recipient_limit = Int("1", doc="The most recipients in one delivery by local.")

    # Fairness inside a destination.
    qmgr_priority_cost = Int(
        "5",
        minimum=1,
        doc="How many messages of a higher priority (MT-PRIORITY) may go before others to the same destination, until "
        "one of the others has its turn.",
    )
    default_delivery_slot_cost = Int(
        "5",
        minimum=1,
        doc="How many deliveries of small messages go before one of a bulky message that waits at the same "
        "destination.",
    )
    qmgr_bulk_recipients = Int(
        "10", minimum=1, doc="A message with more recipients than this at one destination is a bulky one there."
    )
    qmgr_bulk_size = Size("1048576", minimum=1, doc="A message of more bytes than this is a bulky one.")

    # Bounces.
    enable_threaded_bounces = Bool(
        "no", doc="Let notifications refer to the message that they are about, so that mail readers show them together."
    )
    bounce_size_limit = Size(
        "50000", doc="A notification returns the whole message up to this size, else its header only."
    )
    notify_classes = Words(
        "resource, software",
        doc="What postmasters get a copy of: bounce (mail returned), 2bounce (mail that cannot be returned), delay. "
        "The classes policy, protocol, resource and software are accepted and do nothing yet.",
    )
    bounce_notice_recipient = Text("postmaster", doc="Who gets the copies of the class bounce.")
    double_bounce_sender = Text(
        "double-bounce",
        doc="The sender of mail to postmasters. Mail from it that cannot be delivered is dropped without a word.",
    )
    delay_notice_recipient = Text("postmaster", doc="Who gets the copies of the class delay.")


# A parameter whose name does not start with a letter cannot be written as an attribute.
_2bounce = Text("postmaster", doc="Who gets the copies of the class 2bounce.")
_2bounce.__set_name__(QueueParameters, "2bounce_notice_recipient")
setattr(QueueParameters, "2bounce_notice_recipient", _2bounce)
