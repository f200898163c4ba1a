# SPDX-License-Identifier: Apache-2.0
"""A program in a pseudo-terminal, read and typed at as a person would; every wait ends."""
import fcntl
import os
import pty
import select
import struct
import termios
import time

from berth_test import SLOW

LIMIT_S = 30 * SLOW


class Terminal:
    def __init__(self, argv, env, cwd, rows=24, columns=100):
        """OSError where there are no pseudo-terminals."""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execve(argv[0], argv, env)
            finally:
                os._exit(127)
        self.resize(rows, columns)
        self.seen = b""  # what was shown and not yet waited for
        self.all = b""
        self.status = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds):
        """False when nothing came, or the program has ended."""
        if not select.select([self.fd], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # its last process closed it
            data = b""
        self.seen += data
        self.all += data
        return bool(data)

    def until(self, what, seconds=LIMIT_S):
        """Waits until the bytes are shown; returns what came before them."""
        if isinstance(what, str):
            what = what.encode()
        end = time.monotonic() + seconds
        while what not in self.seen:
            if not self._read(end - time.monotonic()) and (time.monotonic() >= end or self.ended()):
                raise AssertionError(f"waiting for {what!r}, there was {self.seen[-3000:]!r}")
        before, self.seen = self.seen.split(what, 1)
        return before

    def type(self, keys):
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds=LIMIT_S):
        """Its exit status."""
        end = time.monotonic() + seconds
        while not self.ended():
            self._read(0.02)
            if time.monotonic() >= end:
                raise AssertionError(f"still running; shown last: {self.all[-3000:]!r}")
        while self._read(0):
            pass
        return self.status

    def close(self):
        if not self.ended():
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.status = -9
        os.close(self.fd)
