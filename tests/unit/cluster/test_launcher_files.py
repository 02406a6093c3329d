"""The files of Ray's cluster launcher hold what Ray and the clouds accept, and nothing open."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from support.launcher_schemas import AUTOSCALER, problems
from support.misspelt_keys import key_paths, with_typo
from support.paths import ROOT

CLOUDS = ("aws", "azure", "gcp")
ROLES = ("head", "worker")
README = " ".join((ROOT / "cluster" / "README.md").read_text().split())
SHELLCHECK = ["--severity=warning", "--exclude=SC1097,SC2154,SC2155"]
"""Ray sets variables that the commands name, and NCCL wants a value that begins with `=`."""

TOKEN_FOLDER = "~/.reidray-cluster"
NAMES = [("available_node_types", "gpu")]
"""Keys that are names of our own, which are free."""


def load(cloud):
    return yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())


CONFIGS = {cloud: load(cloud) for cloud in CLOUDS}
TYPOS = [
    pytest.param(cloud, path, id=f"{cloud}:{'.'.join(map(str, path))}")
    for cloud, config in CONFIGS.items()
    for path in key_paths(config)
    if path not in NAMES
]


def check(config):
    """Fail where Ray, the cloud or our own commands cannot use a configuration."""
    assert problems(config) == []
    validate_config(prepare_config(config))
    assert set(config["file_mounts"]) == set(config["file_mounts"].values()) == {TOKEN_FOLDER}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_and_the_cloud_know_every_key(cloud):
    check(CONFIGS[cloud])


@pytest.mark.parametrize(("cloud", "path"), TYPOS)
def test_a_typo_in_a_key_is_found(cloud, path):
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(with_typo(CONFIGS[cloud], path))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_head_without_gpu_starts_no_worker_before_one_is_needed(cloud):
    config = prepare_config(CONFIGS[cloud])
    types = config["available_node_types"]
    workers = {name: node for name, node in types.items() if name != config["head_node_type"]}
    assert "GPU" not in types[config["head_node_type"]]["resources"]
    for node in workers.values():
        assert node["resources"]["GPU"] == 1
        assert node["min_workers"] == 0
        assert 1 <= node["max_workers"] <= config["max_workers"]


def test_workers_run_on_spot_machines_and_the_head_does_not():
    aws, azure, gcp = (CONFIGS[cloud]["available_node_types"] for cloud in CLOUDS)
    assert aws["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert azure["gpu"]["node_config"]["azure_arm_parameters"]["priority"] == "Spot"
    scheduling = gcp["gpu"]["node_config"]["scheduling"]
    assert scheduling["provisioningModel"] == "SPOT"
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert "InstanceMarketOptions" not in aws["head"]["node_config"]
    assert "priority" not in azure["head"]["node_config"]["azure_arm_parameters"]
    assert "scheduling" not in gcp["head"]["node_config"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_node_starts_ray_with_the_token_and_the_dashboard_on_loopback(cloud):
    config = CONFIGS[cloud]
    options = {name for option in start.params for name in option.opts}
    for role in ROLES:
        *before, command = config[f"{role}_start_ray_commands"]
        assert before == ["ray stop"]
        *settings, ray_start = (part.strip() for part in command.split(";"))
        token = f"{TOKEN_FOLDER.replace('~', '$HOME')}/token"
        assert settings[:2] == [
            "unset OMP_NUM_THREADS",
            f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}",
        ]
        words = shlex.split(ray_start)
        assert words[:2] == ["ray", "start"]
        assert {word.split("=")[0] for word in words[2:]} <= options
        assert ("--dashboard-host=127.0.0.1" in words) == (role == "head")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_interface_of_the_default_route_carries_the_collectives(cloud):
    for role in ROLES:
        command = CONFIGS[cloud][f"{role}_start_ray_commands"][-1]
        assert re.search(r"export GLOO_SOCKET_IFNAME=\$\(awk '.*' /proc/net/route\);", command)
        assert "export NCCL_SOCKET_IFNAME==$GLOO_SOCKET_IFNAME;" in command  # of this name exactly


@pytest.mark.parametrize("cloud", CLOUDS)
def test_shellcheck_accepts_each_command_of_a_node(cloud, tmp_path):
    config = CONFIGS[cloud]
    lists = ("initialization_commands", "head_start_ray_commands", "worker_start_ray_commands")
    for place, command in enumerate(command for each in lists for command in config[each]):
        script = tmp_path / f"{place}.sh"
        script.write_text(f"#!/bin/bash\n{command}\n")
        words = [Path(sys.executable).with_name("shellcheck"), *SHELLCHECK, script]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout) == (0, "")


def test_nodes_of_azure_may_use_docker_and_have_the_client_that_logs_in():
    """Where the image gives them neither."""
    docker, client, login, *_ = CONFIGS["azure"]["initialization_commands"]
    assert docker == 'sudo chown "$USER" /var/run/docker.sock'
    assert client.startswith("command -v az ||")
    assert login.startswith("az login --identity")


@pytest.mark.parametrize(("device", "failures"), [("NVIDIA L4", 2), ("a network card", 0)])
def test_nodes_of_google_wait_for_the_driver_of_a_gpu(device, failures, tmp_path):
    programs = {
        "lspci": f"echo '{device}'",
        "sleep": "echo >> tries",
        "nvidia-smi": f"[ $(cat tries 2> /dev/null | wc -l) = {failures} ]",
    }
    for name, code in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", "-c", CONFIGS["gcp"]["initialization_commands"][0]]
    assert subprocess.run(command, cwd=tmp_path, env={"PATH": path}, check=False).returncode == 0
    assert (tmp_path / "tries").exists() is (failures > 0)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_images_of_head_and_workers_have_one_version(cloud):
    docker = CONFIGS[cloud]["docker"]
    assert docker["head_image"] == f"{docker['worker_image']}-{cloud}"


def test_aws_lets_nobody_but_ssh_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # for the key that Ray makes
    with mock_aws():
        rules = [rule for group in bootstrapped_groups() for rule in group.ip_permissions]
    world = [rule for rule in rules if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in world] == [(22, 22)]
    assert len(rules) == 2


def bootstrapped_groups():
    """Return the security groups that Ray gives the nodes, in an AWS of the test."""
    config = prepare_config(load("aws"))
    ec2 = boto3.resource("ec2", region_name=config["provider"]["region"])
    network = ec2.create_vpc(CidrBlock="10.0.0.0/16")
    zone = config["provider"]["availability_zone"]
    subnet = network.create_subnet(CidrBlock="10.0.0.0/24", AvailabilityZone=zone)
    nodes = config["available_node_types"].values()
    for node in nodes:
        node["node_config"]["SubnetIds"] = [subnet.id]
    nodes = bootstrap_aws(config)["available_node_types"].values()
    groups = [tuple(node["node_config"]["SecurityGroupIds"]) for node in nodes]
    assert all(groups)
    return [ec2.SecurityGroup(name) for name in {name for group in groups for name in group}]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_no_node_has_a_public_address(cloud):
    config = CONFIGS[cloud]
    assert config["provider"]["use_internal_ips"]
    assert "use_external_head_ip" not in config["provider"]
    for node in config["available_node_types"].values():
        interfaces = node["node_config"].get("networkInterfaces", [{}])
        assert all("accessConfigs" not in interface for interface in interfaces)
        assert cloud == "gcp" or all(
            name.startswith("subnet-") for name in node["node_config"]["SubnetIds"]
        )


def test_on_azure_only_ssh_of_the_head_is_open():
    assert CONFIGS["azure"]["provider"]["use_internal_ips"]
    template = Path(AUTOSCALER, "_private/_azure/azure-config-template.json").read_text()
    (group,) = (
        resource
        for resource in json.loads(template)["resources"]
        if resource["type"].endswith("/networkSecurityGroups")
    )
    rules = [rule["properties"] for rule in group["properties"]["securityRules"]]
    assert [(rule["access"], rule["destinationPortRange"]) for rule in rules] == [("Allow", "22")]


def test_machines_of_aws_are_encrypted_and_give_their_role_to_no_stray_request():
    config = CONFIGS["aws"]
    assert config["provider"]["cache_stopped_nodes"] is False
    nodes = {name: each["node_config"] for name, each in config["available_node_types"].items()}
    for node in nodes.values():
        assert node["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
    profiles = {name: node["IamInstanceProfile"]["Name"] for name, node in nodes.items()}
    assert profiles == {"head": "reidray-head", "gpu": "reidray-worker"}
    assert all(f"`{name}`" in README for name in profiles.values())
    assert (
        f"--env=AWS_DEFAULT_REGION={config['provider']['region']}"
        in (config["docker"]["run_options"])
    )


@pytest.mark.parametrize("cloud", CLOUDS)
def test_idle_workers_go_and_workers_join_the_port_of_the_head(cloud):
    config = CONFIGS[cloud]
    assert f"A worker ends after {config['idle_timeout_minutes']} minutes" in README
    head, worker = (shlex.split(config[f"{role}_start_ray_commands"][-1]) for role in ROLES)
    (port,) = (word.removeprefix("--port=") for word in head if word.startswith("--port="))
    assert f"--address=$RAY_HEAD_IP:{port}" in worker
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@pytest.mark.parametrize("cloud", ["azure", "gcp"])
def test_containers_see_the_mounted_bucket_as_their_own(cloud):
    config = CONFIGS[cloud]
    folder = "/mnt/reidray"
    assert f"--volume={folder}:{folder}" in config["docker"]["run_options"]
    commands = config["initialization_commands"]
    (mount,) = (each for each in commands if each.startswith("mountpoint"))
    assert mount.endswith(f" {folder}")
    assert f"sudo mkdir -p {folder}" in commands
    assert any("1000" in each for each in commands if folder in each)  # the user of the image
