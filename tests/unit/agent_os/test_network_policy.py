"""Which hosts a VM reaches: names, addresses, and what the user named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentq_nb import Actor
from agentq_nb.agent_os import agent_os
from agentq_nb.agent_os.network.policy import Named, Policy, checked_target, is_public
from agentq_nb.agent_os.network.variables import for_proxy, named_in, named_in_files

PUBLIC = ("1.1.1.1", "140.82.121.4", "203.0.113.80", "2606:4700:4700::1111", "2002:101:101::", "64:ff9b::101:101")
NOT_PUBLIC = (
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2002:7f00:1::",
    "64:ff9b::a9fe:a9fe",
    "no address",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_of_this_machine_of_private_networks_and_of_metadata_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("example.org", Named("example.org")),
        ("Example.ORG.", Named("example.org")),
        ("*.example.org", Named("*.example.org")),
        ("example.org:8443", Named("example.org", 8443)),
        ("https://example.org/v1?a=b", Named("example.org", 443)),
        ("http://user:word@example.org", Named("example.org", 80)),
        ("http://localhost:11434/v1", Named("localhost", 11434)),
        ("127.0.0.1:8000", Named("127.0.0.1", 8000)),
        ("[::1]:8000", Named("::1", 8000)),
        ("10.0.0.5", Named("10.0.0.5")),
        ("2606:4700::1111", Named("2606:4700::1111")),
    ],
)
def test_a_host_can_be_named_in_many_ways(text: str, named: Named) -> None:
    assert Named.parse(text) == named


@pytest.mark.parametrize(
    "text", ["", "*", "a b", "example.org/path", "ftp://example.org", "user@example.org", "example.org:99999", "-x"]
)
def test_what_is_no_host_is_refused_and_told(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a host"):
        Named.parse(text)


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1", "::1"])
def test_a_host_on_loopback_needs_a_port(text: str) -> None:
    with pytest.raises(ValueError, match="needs a port"):
        Named.parse(text)


def test_a_named_host_covers_its_port_and_a_star_what_is_below() -> None:
    assert Named("a.org").covers("a.org", 80)
    assert not Named("a.org").covers("b.a.org", 80)
    assert not Named("a.org", 81).covers("a.org", 80)
    assert Named("*.a.org").covers("b.a.org", 443)
    assert not Named("*.a.org").covers("a.org", 443)
    assert not Named("*.a.org").covers("evila.org", 443)


def test_the_web_is_every_name_but_only_public_addresses_of_it() -> None:
    web = Policy("web")
    assert web.refuses("example.org", 443) is None
    assert web.reachable("example.org", 443, ["127.0.0.1", "1.1.1.1", "10.0.0.1"]) == ["1.1.1.1"]
    assert web.reachable("example.org", 443, ["1.1.1.1"], own=["1.1.1.1"]) == []
    assert 'agent_os(network="web", hosts=["example.org"])' in str(web.refuses_addresses("example.org", 443))
    assert 'hosts=["10.0.0.1:80"]' in str(web.refuses_addresses("10.0.0.1", 80))
    assert 'hosts=["[::1]:80"]' in str(web.refuses_addresses("::1", 80))


def test_a_named_host_is_reached_wherever_it_is() -> None:
    for mode in ("web", "llm"):
        policy = Policy(mode, [Named("model.lan", 8000)])  # type: ignore[arg-type]
        assert policy.refuses("model.lan", 8000) is None
        assert policy.reachable("model.lan", 8000, ["10.0.0.1"]) == ["10.0.0.1"]
        assert policy.reachable("model.lan", 8001, ["10.0.0.1"]) == []


def test_llm_refuses_every_name_that_is_not_named_and_none_refuses_all() -> None:
    named = [Named("api.anthropic.com")]
    assert Policy("llm", named).refuses("api.anthropic.com", 443) is None
    refused = Policy("llm", named).refuses("packages.example", 443)
    assert 'agent_os(network="llm", hosts=["packages.example"])' in str(refused)
    assert Policy("none", named).refuses("api.anthropic.com", 443) is not None


@pytest.mark.parametrize(
    "text", ["a.org", "a.org:", "a.org:x", "a.org:80/x", "a b:80", ":80", "[fe80::1%eth0]:80", "x" * 300 + ":1"]
)
def test_targets_that_cannot_be_read_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is no|[Pp]ort|Invalid"):
        checked_target(text)


def test_targets_are_hosts_and_ports() -> None:
    assert checked_target("A.org:443") == ("a.org", 443)
    assert checked_target("[::1]:443") == ("::1", 443)
    assert checked_target("a.org", 80) == ("a.org", 80)


def test_base_urls_and_indexes_in_variables_name_hosts() -> None:
    environment = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000/v1",
        "OPENAI_API_BASE": "https://models.corp",
        "AZURE_OPENAI_ENDPOINT": "https://azure.corp:8443/",
        "OLLAMA_HOST": "localhost:11434",
        "PIP_INDEX_URL": "https://user:word@pip.corp/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.corp/simple https://two.corp/simple",
        "UV_DEFAULT_INDEX": "https://uv.corp",
        "npm_config_registry": "http://npm.corp:4873",
        "GIT_CONFIG_KEY_0": "url.https://git.corp/.insteadOf",
        "HOMEPAGE": "https://not.corp",
        "ANTHROPIC_API_KEY": "https://not.corp",
    }
    assert {str(named) for named in named_in(environment)} == {
        "127.0.0.1:4000",
        "models.corp:443",
        "azure.corp:8443",
        "localhost:11434",
        "pip.corp:443",
        "one.corp:443",
        "two.corp:443",
        "uv.corp:443",
        "npm.corp:4873",
        "git.corp:443",
    }


def test_the_machines_settings_of_pip_npm_and_git_name_hosts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pip, npm, git = tmp_path / "pip.conf", tmp_path / "npmrc", tmp_path / "gitconfig"
    pip.write_text("[global]\nindex-url = https://pip.corp/simple\n# see https://not.corp\nproxy = http://not.corp:1\n")
    npm.write_text("registry=https://npm.corp/\n@ours:registry=https://ours.corp/\nfund=false\n")
    git.write_text('[url "https://git.corp/"]\n\tinsteadOf = https://github.com/\n')
    named = {named.host for named in named_in_files([str(file) for file in (pip, npm, git, tmp_path / "missing")])}
    assert named == {"pip.corp", "npm.corp", "ours.corp", "git.corp", "github.com"}


def test_the_proxy_is_told_in_every_spelling_and_loopback_goes_past_it() -> None:
    variables = for_proxy("http://127.0.0.2:1", [Named("127.0.0.3", 80), Named("a.org")])
    for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "npm_config_proxy", "npm_config_https_proxy"):
        assert variables[name] == "http://127.0.0.2:1"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1,::1,127.0.0.3"
    assert variables["NODE_USE_ENV_PROXY"] == "1"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"network": "all"}, "network is one of 'open', 'web', 'llm', 'none', not 'all'"),
        ({"network": "web", "isolation": "off"}, 'network="web" needs isolation'),
        ({"network": "open", "hosts": ["a.org"]}, 'network="open" has no use for them'),
        ({"network": "none", "hosts": ["a.org"]}, 'network="none" has no use for them'),
        ({"hosts": "a.org"}, "hosts takes a list"),
        ({"hosts": ["a b"]}, "hosts: 'a b' is neither"),
        ({"hosts": ["localhost"]}, "hosts: 'localhost' is on loopback and needs a port"),
        ({"hosts": [7]}, "hosts: "),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(options: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        agent_os(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("hosts", [[], ["a.org"], ("a.org", "http://localhost:1")])
def test_hosts_may_be_any_sequence(hosts: Sequence[str]) -> None:
    assert issubclass(agent_os(hosts=hosts), Actor)
