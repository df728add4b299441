"""The immutable snapshot of all parameters that code receives as an argument; a reload makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from ekiden.config.expand import ExpansionError, expand
from ekiden.config.parameters.access import AccessParameters
from ekiden.config.parameters.accounts import AccountParameters
from ekiden.config.parameters.arc import ArcParameters
from ekiden.config.parameters.authentication import AuthenticationParameters
from ekiden.config.parameters.commands import CommandParameters
from ekiden.config.parameters.delivery import DeliveryParameters
from ekiden.config.parameters.dkim import DkimParameters
from ekiden.config.parameters.dmarc_reports import DmarcReportParameters
from ekiden.config.parameters.dns import DnsParameters
from ekiden.config.parameters.extensions import ExtensionParameters
from ekiden.config.parameters.general import GeneralParameters
from ekiden.config.parameters.local import LocalParameters
from ekiden.config.parameters.log import LogParameters
from ekiden.config.parameters.process import ProcessParameters
from ekiden.config.parameters.queue import QueueParameters
from ekiden.config.parameters.reports import ReceivedReportParameters
from ekiden.config.parameters.rewriting import RewritingParameters
from ekiden.config.parameters.routing import RoutingParameters
from ekiden.config.parameters.smtp import SmtpParameters
from ekiden.config.parameters.smtp_sasl import SmtpSaslParameters
from ekiden.config.parameters.smtp_tls import SmtpTlsParameters
from ekiden.config.parameters.smtpd import SmtpdParameters
from ekiden.config.parameters.smtpd_proxy import SmtpdProxyParameters
from ekiden.config.parameters.smtpd_sasl import SmtpdSaslParameters
from ekiden.config.parameters.smtpd_tls import SmtpdTlsParameters
from ekiden.config.parameters.srs import SrsParameters
from ekiden.config.parameters.store import StoreParameters
from ekiden.config.parameters.tables import TableParameters
from ekiden.config.parameters.tls import TlsParameters
from ekiden.config.parameters.tls_policy import TlsPolicyParameters
from ekiden.config.postfix_names import postfix_defaults
from ekiden.config.registry import Parameter


class ParameterError(ValueError):
    """A value that cannot be used: which parameter, which text, and what would be right."""

    def __init__(self, name: str, text: str, problem: str) -> None:
        super().__init__(f"{name} = {text}: {problem}")
        self.name, self.text, self.problem = name, text, problem


class Parameters(
    GeneralParameters,
    SmtpdParameters,
    SmtpdProxyParameters,
    SmtpdSaslParameters,
    SmtpdTlsParameters,
    AccessParameters,
    ArcParameters,
    AuthenticationParameters,
    SmtpParameters,
    SmtpTlsParameters,
    SmtpSaslParameters,
    QueueParameters,
    StoreParameters,
    DeliveryParameters,
    DnsParameters,
    LogParameters,
    ProcessParameters,
    RewritingParameters,
    RoutingParameters,
    SrsParameters,
    LocalParameters,
    TableParameters,
    CommandParameters,
    AccountParameters,
    TlsParameters,
    ExtensionParameters,
    TlsPolicyParameters,
    DmarcReportParameters,
    ReceivedReportParameters,
    DkimParameters,
):
    """All parameters, parsed. ``Parameters({"myhostname": "mx.example"})``: what is not given has its default.

    Unknown names in ``settings`` serve ``$name`` references (main.cf allows own names) and are otherwise ignored.
    Raises ParameterError.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.__dict__["_settings"] = dict(settings or {})
        declared = self.declared()
        for name, parameter in declared.items():
            self.__dict__[name] = self._parsed(name, parameter)

    def _parsed(self, name: str, parameter: Parameter[object]) -> object:
        text = self.__dict__["_settings"].get(name, parameter.default)
        try:
            return parameter.parse(text.strip() if parameter.raw else self.expanded(text))
        except ExpansionError as error:
            raise ParameterError(name, text, str(error)) from error
        except ValueError as error:
            raise ParameterError(name, text, str(error)) from error

    def raw(self, name: str) -> str | None:
        """The text that ``$name`` stands for, not expanded: as set, else the default; None where there is neither.

        What Postfix has and Ekiden does not honour (yet) has Postfix's default, so that references to it mean the same.
        """
        text: str | None = self.__dict__["_settings"].get(name)
        if text is not None:
            return text
        declaration = getattr(type(self), name, None)
        return declaration.default if isinstance(declaration, Parameter) else postfix_defaults().get(name)

    def expanded(self, text: str) -> str:
        """``text`` with its references replaced, without white space at its ends. Raises ExpansionError."""
        return expand(text, self.raw).strip()

    @property
    def settings(self) -> Mapping[str, str]:
        """The raw text of what was set, by name."""
        return dict(self.__dict__["_settings"])

    def with_overrides(self, overrides: Mapping[str, str]) -> Parameters:
        """Another snapshot in which ``overrides`` (master.cf ``-o name=value``) hold."""
        return Parameters({**self.__dict__["_settings"], **overrides}) if overrides else self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"parameters are immutable: {name}")
