"""How the deliverer serves a job of a pipe service: the command of its own master.cf, as the user that it names."""

from __future__ import annotations

import grp
import os
import time
from collections.abc import Callable, Mapping

from ekiden.config.load import Configuration
from ekiden.deliver.account import AccountTrouble, find_account
from ekiden.deliver.command import environment
from ekiden.deliver.local_delivery import Delivery, Step
from ekiden.deliver.mailbox_jobs import Answer, Job, deferred
from ekiden.deliver.mailbox_place import Owner
from ekiden.deliver.pipe_service import PipeService, parse_pipe_service, pipe_job
from ekiden.queue.concurrency import transport_value


class PipeDeliveries:
    """Raises ConfigError for a service that is written wrongly."""

    def __init__(
        self,
        configuration: Configuration,
        server: Owner,
        *,
        own_environment: Mapping[str, str] = os.environ,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._own_environment = own_environment
        self._wall_clock = wall_clock
        self._mail_owner = configuration.parameters.mail_owner
        self._services = {
            service.name: (
                parse_pipe_service(service.name, service.args, file=configuration.master_cf, line=service.line),
                configuration.parameters_of(service),
            )
            for service in configuration.services
            if service.command == "pipe"
        }

    def start(self, job: Job, number: int) -> Delivery:
        name = job.recipient.decode("utf-8", "surrogateescape")
        found = self._services.get(name)
        if found is None:
            return deferred(number, 3, 5, f"mail transport unavailable: master.cf has no pipe service {name}")
        service, parameters = found
        owner = self._owner(service, number)
        if isinstance(owner, Answer):
            return owner
        if not job.facts.recipients:
            return deferred(number, 3, 0, "the job names no recipient")
        run = pipe_job(
            service,
            job,
            number,
            environment=environment({}, allowed="", exported=parameters.export_environment, own=self._own_environment),
            time_limit_s=transport_value(parameters, f"{name}_time_limit", "transport_time_limit", float),
            output_limit=parameters.command_output_limit,
            delimiter=parameters.recipient_delimiter,
            owner_special=parameters.owner_request_special,
            now=self._wall_clock(),
        )
        answer: Answer = yield Step(owner, run)
        return answer

    def _owner(self, service: PipeService, number: int) -> Owner | Answer:
        """The user and group that a service names; root and the owner of the mail system are refused."""

        def wrong(text: str) -> Answer:
            return deferred(number, 3, 5, f"mail system configuration error: service {service.name}: {text}")

        try:
            account = find_account(service.user)
        except AccountTrouble as error:
            return deferred(number, 3, 0, str(error))
        if account is None:
            return wrong(f"there is no user {service.user}")
        gid = account.gid
        if service.group:
            try:
                gid = grp.getgrnam(service.group).gr_gid
            except KeyError:
                return wrong(f"there is no group {service.group}")
        if self._server.uid != 0:
            if account.uid != self._server.uid:
                return wrong(f"user={service.user}: the server does not run as root, so only its own user will do")
            return Owner(self._server.uid, self._server.gid, commands=True)
        if account.uid == 0 or gid == 0:
            return wrong(f"user={service.user}: commands do not run as root")
        if account.name == self._mail_owner:
            return wrong(f"user={service.user}: the owner of the mail system runs no commands")
        return Owner(account.uid, gid, commands=True)
