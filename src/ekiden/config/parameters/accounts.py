"""Where accounts live, and how passwords are checked (SASL_README)."""

from __future__ import annotations

from ekiden.config.registry import Choice, Duration, Group, Int, SomeOf, Tables, Text, Words

# WEAK ones count only when they are named.
SCHEMES = (
    "argon2id", "argon2i", "bcrypt", "sha512-crypt", "sha256-crypt", "ssha512", "ssha256", "ssha",
    "sha512", "sha256", "sha", "scram-sha-256", "scram-sha-1", "md5-crypt", "des-crypt", "plain",
)  # fmt: skip
WEAK = frozenset({"md5-crypt", "des-crypt", "plain"})


class AccountParameters(Group):
    smtpd_sasl_type = Choice(
        "cyrus",
        *("cyrus", "dovecot", "ekiden"),
        doc="Who checks logins. ekiden: this server itself, with the accounts in sasl_accounts. dovecot: Dovecot's "
        "auth socket at smtpd_sasl_path. cyrus: what the file of Cyrus SASL that smtpd_sasl_path names says "
        "(saslauthd), and the same as ekiden where there is no such file.",
    )
    smtpd_sasl_path = Text(
        "smtpd",
        doc="For dovecot its auth socket, a path that may be relative to queue_directory, or inet:host:port. For cyrus "
        "the name of the file NAME.conf in cyrus_sasl_config_path.",
    )
    cyrus_sasl_config_path = Text(
        "",
        doc="The directories, with colons between them, where the configuration of Cyrus SASL is looked for; empty: "
        "/etc/postfix/sasl:/etc/sasl2:/usr/lib/sasl2.",
    )
    sasl_accounts = Words(
        "file:$config_directory/accounts",
        doc="Where accounts live; the first place that has an account decides. file:/path (ekiden user), "
        "passwd-file:/path, ldap:/path, table:TYPE:NAME (a lookup table that gives a stored password), pam:SERVICE, "
        "saslauthd:/path.",
    )
    sasl_authorization_maps = Tables(
        "",
        doc="Tables from an account to the other accounts it may act as (the authorization identity of a login); "
        "without them each is itself only.",
    )
    sasl_password_schemes = SomeOf(
        " ".join(scheme for scheme in SCHEMES if scheme not in WEAK),
        SCHEMES,
        doc="The forms of stored passwords that count in passwd files, directories and tables. The weak ones, "
        "md5-crypt, des-crypt and plain, must be named.",
    )
    sasl_scram_hashes = SomeOf(
        "",
        ("sha1", "sha256"),
        doc="For which of the SCRAM mechanisms `ekiden user` keeps a verifier beside the hash of a password; these "
        "mechanisms are offered. A password that was set before has none until it is set again.",
    )
    sasl_scram_iterations = Int(
        "10000", minimum=4096, maximum=10_000_000, doc="The iteration count of SCRAM verifiers that are made now."
    )
    sasl_password_length_minimum = Int("8", minimum=1, doc="The fewest characters of a password that is set.")
    sasl_password_length_limit = Int("1024", minimum=64, doc="The most bytes of a password that a client may try.")
    sasl_hash_threads = Int("2", minimum=1, maximum=64, doc="How many passwords each worker hashes at a time.")
    sasl_hash_queue_limit = Int(
        "50", doc="How many more passwords may wait for that in each worker; a client beyond is told to come back."
    )
    sasl_verify_cache_time = Duration(
        "60s",
        doc="How long a password that was right is known without hashing it again, as long as nothing changes in the "
        "place where the account lives; 0 is never. Places that cannot tell (LDAP, PAM, saslauthd) are always asked.",
    )
    sasl_verify_cache_size = Int("10000", minimum=1, doc="How many such passwords each worker knows at most.")
    sasl_failure_delay = Duration(
        "1s",
        doc="A wrong password is refused no sooner than so long after it came, so that time does not tell whether the "
        "account exists.",
    )
    sasl_server_timeout = Duration(
        "30s", minimum=1, doc="How long Dovecot, saslauthd or PAM may take for a login, and a connection to them."
    )
    sasl_pam_threads = Int("4", minimum=1, maximum=64, doc="How many logins each worker has with PAM at a time.")
    sasl_oauth_issuer = Text(
        "",
        doc="Who issues the access tokens (OAuth 2.0) that clients may log in with, as it stands in the tokens (iss): "
        "https://id.example.com/realms/mail. Clients are told to look there how to get one. Empty: no tokens.",
    )
    sasl_oauth_audience = Words(
        "", doc="For whom a token must be issued (aud), one of these; it must be set where the issuer is."
    )
    sasl_oauth_scopes = Words("", doc="The scopes that a token must have, all of them.")
    sasl_oauth_keys_url = Text(
        "", doc="The https address of the issuer's keys (jwks_uri), for tokens that are JWTs. Needs ekiden[oidc]."
    )
    sasl_oauth_introspection_url = Text(
        "", doc="The https address where the issuer is asked about a token (RFC 7662), in place of its keys."
    )
    sasl_oauth_client_file = Text(
        "", doc="A file with the line NAME:SECRET, who we are when we ask there; readable for mail_owner alone."
    )
    sasl_oauth_account_claim = Text(
        "email",
        doc="The claim of a token that names the account. One that is called email must not be said to be unverified.",
    )
    sasl_oauth_keys_time = Duration(
        "1h", minimum=60, doc="How long the issuer's keys are kept; an unknown key is asked for sooner, twice a minute."
    )
    sasl_oauth_leeway = Duration("30s", doc="How far the issuer's clock may be from ours.")
    sasl_oauth_ca_file = Text("", doc="Authorities that may certify the issuer's server, beside those of the system.")
    sasl_oauth_timeout = Duration("10s", minimum=1, doc="How long the issuer's server may take for an answer.")
    pop_before_smtp_time = Duration(
        "0s",
        doc="How long an address from which a mailbox of this host was logged in to may send, where a list of "
        "restrictions has permit_pop_before_smtp; 0 is never. For programs that cannot log in by SMTP.",
    )
    smtpd_auth_failure_limit = Int(
        "10",
        doc="After so many wrong passwords of one client in an smtpd_auth_failure_time its logins are refused without "
        "a look until that time is over; 0 sets no limit. It does not bind smtpd_client_event_limit_exceptions.",
    )
    smtpd_auth_account_failure_limit = Int(
        "100",
        doc="After so many wrong passwords for one account in an smtpd_auth_failure_time, from wherever, only clients "
        "that logged in to it on the same day may, until that time is over; 0 sets no limit.",
    )
    smtpd_auth_failure_time = Duration(
        "600s", minimum=1, doc="The time that the limits of wrong passwords are for; it begins at its multiples."
    )
    smtpd_auth_failure_sleep_time = Duration(
        "1s",
        doc="How much longer the reply to each further wrong password of a client waits within that time, at most ten "
        "times this.",
    )
