"""Who a process becomes."""

from __future__ import annotations

import os

from ekiden.runtime.privileges import Owner, become
from support.requirements import require_root


def test_a_process_keeps_the_groups_that_its_user_is_in_and_no_others() -> None:
    require_root()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        # The group database as it would be after `adduser nobody sasl`.
        os.getgrouplist = lambda name, gid: [gid, 45] if name == "nobody" else [gid]
        os.setgroups([0, 4])
        become(Owner("nobody", 65534, 65534))
        os.write(write, repr((os.getresuid(), os.getresgid(), os.getgroups())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1000).decode() == repr(((65534,) * 3, (65534,) * 3, [45]))
    os.close(read)
    os.close(write)
