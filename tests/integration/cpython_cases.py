"""Runs cases of CPython's own tests, in the working directory, and prints what became of each: one JSON line {case: "ok", "skipped" or the end of what it
failed with}. argv: seconds in all, then a module, class or case each."""

import faulthandler
import json
import os
import sys
import tempfile
import unittest

OUT = os.dup(1)


class Outcomes(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.cases = {}

    def note(self, test, text):
        self.cases.setdefault(test.id(), text)

    def addSuccess(self, test):
        self.note(test, "ok")

    def addSkip(self, test, reason):
        self.note(test, "skipped")

    def addExpectedFailure(self, test, err):
        self.note(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.note(test, "ok")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, self.failures[-1][1][-1500:])

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, self.errors[-1][1][-1500:])

    def addSubTest(self, test, subtest, err):
        if err:
            self.note(test, self._exc_info_to_string(err, test)[-1500:])


def main():
    faulthandler.dump_traceback_later(int(sys.argv[1]), exit=True)
    tempfile.tempdir = os.getcwd()
    os.environ["TMPDIR"] = os.getcwd()
    from test import support
    support.use_resources = ["subprocess"]
    os.dup2(2, 1)  # what a test prints is not ours
    result = Outcomes()
    unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:]).run(result)
    os.write(OUT, json.dumps(result.cases).encode() + b"\n")
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
