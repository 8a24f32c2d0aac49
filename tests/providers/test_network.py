"""Nothing of these tests leaves the machine, whatever a package tries."""

import socket

import pytest

from tests.support.providers.addresses import HOSTS


def test_no_other_name_can_be_resolved(double):
    for name in ("example.com", "api.openai.com.example.com", "huggingface.co.uk"):
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(name, 443)


def test_no_connection_leaves_the_machine(double):
    with socket.socket() as connecting, pytest.raises(OSError, match="not on this machine"):
        connecting.connect(("192.0.2.1", 443))
    with socket.socket() as connecting, pytest.raises(OSError, match="not on this machine"):
        connecting.connect_ex(("192.0.2.1", 443))


def test_a_providers_name_leads_to_this_machine(double):
    for name in HOSTS:
        for *_, address in socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM):
            assert address[0].startswith("127.")
