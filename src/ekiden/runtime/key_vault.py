"""The supervisor's hold on private keys: it reads the files, which are root's, and passes on what was in them.

What was read lies in a sealed file in memory. A worker gets its descriptor: inherited at its start, over the control
socket when the files have changed. The deliverer and the processes below it never have it. Nothing of the keys is
parsed here: that is done by workers, which have given up root.
"""

from __future__ import annotations

import fcntl
import os

import msgspec

from ekiden.config.load import Configuration
from ekiden.runtime.srs_secret import provide_srs_secret
from ekiden.tls.key_files import KeyFileReader, KeyFiles, key_directories

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeyFiles).decode

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class KeyVault:
    def __init__(self, configuration: Configuration) -> None:
        self._descriptor = -1
        self.configure(configuration)

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def watches(self) -> bool:
        """There are files that may change."""
        return self._reader.has_any

    def configure(self, configuration: Configuration) -> None:
        """Read the files that a configuration names, of which the secret of SRS is made first if it is not there."""
        provide_srs_secret(configuration.parameters)
        self._reader = _reader(configuration)
        self._read()

    def look(self) -> bool:
        """Whether the files have changed, which are read again then."""
        if not self._reader.changed():
            return False
        self._read()
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        data = memoryview(_encode(self._reader.read()))
        descriptor = os.memfd_create("keys", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        while data:
            data = data[os.write(descriptor, data) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self.close()
        self._descriptor = descriptor


def key_files_of(configuration: Configuration) -> KeyFiles:
    """What the files hold, for a process that reads them for itself."""
    return _reader(configuration).read()


def _reader(configuration: Configuration) -> KeyFileReader:
    of = configuration.parameters_of
    return KeyFileReader(
        [of(service) for service in configuration.services if service.command in ("smtpd", "lmtpd")],
        [(of(service), service.command) for service in configuration.services if service.command in ("smtp", "lmtp")],
        [
            directory
            for parameters in (configuration.parameters, *(of(service) for service in configuration.services))
            for directory in key_directories(parameters)
        ],
        secrets=[configuration.parameters.srs_secret_file] if configuration.parameters.srs_domain else [],
    )


def take_keys(descriptor: int) -> KeyFiles:
    """What lies in a descriptor of the vault, which is closed."""
    try:
        size = os.fstat(descriptor).st_size
        return _decode(os.pread(descriptor, size, 0))
    finally:
        os.close(descriptor)
