"""Throw-away authorities and certificates for localhost, made by openssl."""
import subprocess


def _openssl(folder, *words):
    return subprocess.run(['openssl', *words], cwd=folder, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


def make(folder, *names):
    """Of each name NAME-ca.pem, NAME.pem and NAME.key. False where there is no openssl."""
    good = True
    for name in names:
        good = good and _openssl(folder, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days',
                                 '2', '-subj', '/CN=' + name, '-keyout', name + '-ca.key', '-out',
                                 name + '-ca.pem')
        good = good and _openssl(folder, 'req', '-newkey', 'rsa:2048', '-nodes', '-subj',
                                 '/CN=localhost', '-keyout', name + '.key', '-out', name + '.csr')
        good = good and _openssl(folder, 'x509', '-req', '-in', name + '.csr', '-CA',
                                 name + '-ca.pem', '-CAkey', name + '-ca.key', '-CAcreateserial',
                                 '-days', '2', '-out', name + '.pem')
    return good


def options(folder, name):
    """For the command line of every program."""
    return ['--tls-ca', f'{folder}/{name}-ca.pem', '--tls-cert', f'{folder}/{name}.pem',
            '--tls-key', f'{folder}/{name}.key']
