#!/usr/bin/python3 -IS
"""A stand-in for macOS's plutil -lint -s FILE."""
import plistlib
import sys

assert sys.argv[1:3] == ["-lint", "-s"], sys.argv
plistlib.load(open(sys.argv[3], "rb"))
