"""Stands in for the binding of libmount that Debian does not have: what the suite asks of it."""

import re


class Mount:
    """One line of mountinfo, proc_pid_mountinfo(5)."""

    def __init__(self, line):
        before, after = line.split(" - ", 1)
        before = before.split(" ")
        self.target = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before[4])
        self.vfs_options = before[5]
        self.fs_options = after.split(" ")[2].strip()


class Table:
    """All lines of a file."""

    def __init__(self, path):
        with open(path) as file:
            self.mounts = [Mount(line) for line in file if " - " in line]

    def find_target(self, target):
        return next((mount for mount in self.mounts if mount.target == target), None)
