#include "engine/wire/tls.h"

#include <nng/supplemental/tls/tls.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TLS_FILE_BYTES_MAX = 1 << 20 };

bool tls_is_wanted(const char *url) { return strncmp(url, "tls+tcp", 7) == 0; }

static struct tls_options tls_environment;

static bool tls_text(char *out, size_t out_bytes, const char *text) {
    int n = snprintf(out, out_bytes, "%s", text ? text : "");
    return n >= 0 && (size_t)n < out_bytes;
}

static void tls_read_environment(void) {
    struct tls_options *t = &tls_environment;
    tls_text(t->authority, sizeof t->authority, getenv("JUMUN_TLS_CA"));
    tls_text(t->certificate, sizeof t->certificate, getenv("JUMUN_TLS_CERT"));
    tls_text(t->key, sizeof t->key, getenv("JUMUN_TLS_KEY"));
}

const struct tls_options *tls_of_environment(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, tls_read_environment);
    return &tls_environment;
}

bool tls_fill(struct tls_options *tls, const char *authority, const char *certificate,
              const char *key) {
    *tls = *tls_of_environment();
    return (!authority || !authority[0] ||
            tls_text(tls->authority, sizeof tls->authority, authority)) &&
           (!certificate || !certificate[0] ||
            tls_text(tls->certificate, sizeof tls->certificate, certificate)) &&
           (!key || !key[0] || tls_text(tls->key, sizeof tls->key, key));
}

void tls_host_of(const char *url, char *host, size_t host_bytes) {
    const char *from = strstr(url, "://");
    from = from ? from + 3 : url;
    const char *colon = strrchr(from, ':');
    int bytes = (int)(colon ? colon - from : (ptrdiff_t)strlen(from));
    snprintf(host, host_bytes, "%.*s", bytes, from);
}

/* The whole file as a text, malloc'ed; NULL with a sentence. */
static char *tls_read_file(const char *path, char *error, size_t error_bytes) {
    FILE *f = fopen(path, "re");
    char *text = f ? calloc(1, TLS_FILE_BYTES_MAX + 1) : NULL;
    size_t bytes = text ? fread(text, 1, TLS_FILE_BYTES_MAX, f) : 0;
    if (f) fclose(f);
    if (bytes > 0) return text;
    free(text);
    snprintf(error, error_bytes, "cannot read %s: %s", path, strerror(errno));
    return NULL;
}

static int tls_load_own(nng_tls_config *config, const struct tls_options *tls, char *error,
                        size_t error_bytes) {
    char *certificate = tls_read_file(tls->certificate, error, error_bytes);
    char *key = certificate ? tls_read_file(tls->key, error, error_bytes) : NULL;
    int rc = key ? nng_tls_config_own_cert(config, certificate, key, NULL) : NNG_ENOENT;
    if (key && rc != 0)
        snprintf(error, error_bytes, "cannot use the certificate in %s with the key in %s: %s",
                 tls->certificate, tls->key, nng_strerror(rc));
    free(certificate);
    free(key);
    return rc;
}

/* 0, or an error number with a sentence. */
static int tls_load(nng_tls_config *config, const struct tls_options *tls, char *error,
                    size_t error_bytes) {
    int rc = tls->certificate[0] != 0 ? tls_load_own(config, tls, error, error_bytes) : 0;
    if (rc != 0 || tls->authority[0] == 0) return rc;
    rc = nng_tls_config_ca_file(config, tls->authority);
    if (rc != 0)
        snprintf(error, error_bytes, "cannot use the authority's certificates in %s: %s",
                 tls->authority, nng_strerror(rc));
    return rc;
}

static int tls_config(const char *url, const struct tls_options *tls, bool server,
                      nng_tls_config **config, char *error, size_t error_bytes) {
    const char *need = server ? tls->certificate : tls->authority;
    if (need[0] == 0) {
        snprintf(error, error_bytes,
                 server ? "%s needs a certificate and its key: --tls-cert and --tls-key"
                        : "%s needs the certificate of the authority that signed the other "
                          "side's: --tls-ca, or JUMUN_TLS_CA", url);
        return NNG_EINVAL;
    }
    int rc = nng_tls_config_alloc(config, server ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
    if (rc == NNG_ENOTSUP) {
        snprintf(error, error_bytes, "%s: this nng was built without TLS", url);
        return rc;
    }
    if (rc != 0) {
        snprintf(error, error_bytes, "%s: %s", url, nng_strerror(rc));
        return rc;
    }
    rc = tls_load(*config, tls, error, error_bytes);
    if (rc == 0 && tls->authority[0] != 0)
        rc = nng_tls_config_auth_mode(*config, NNG_TLS_AUTH_MODE_REQUIRED);
    if (rc == 0) return 0;
    if (error[0] == 0) snprintf(error, error_bytes, "%s: %s", url, nng_strerror(rc));
    nng_tls_config_free(*config);
    return rc;
}

int tls_client_config(const char *url, const struct tls_options *tls, enum tls_check check,
                      nng_tls_config **config, char *error, size_t error_bytes) {
    char host[TLS_HOST_BYTES];
    error[0] = 0;
    int rc = tls_config(url, tls, false, config, error, error_bytes);
    if (rc != 0) return rc;
    tls_host_of(url, host, sizeof host);
    if (check != TLS_LOOK_AT_SIGNATURE) rc = nng_tls_config_server_name(*config, host);
    if (rc == 0 && check != TLS_DEMAND_ALL)
        rc = nng_tls_config_auth_mode(*config, NNG_TLS_AUTH_MODE_OPTIONAL);
    if (rc == 0) return 0;
    snprintf(error, error_bytes, "%s: %s", url, nng_strerror(rc));
    nng_tls_config_free(*config);
    return rc;
}

const char *tls_listen_why(int rc) {
    switch (rc) {
    case NNG_EADDRINUSE: return "another program or node uses this address";
    case NNG_EADDRINVAL: return "this machine has no such address, or not yet";
    default: return nng_strerror(rc);
    }
}

int tls_listen(nng_socket socket, const char *url, const struct tls_options *tls,
               nng_listener *listener, char *error, size_t error_bytes) {
    static const struct tls_options none;
    nng_tls_config *config = NULL;
    int rc = nng_listener_create(listener, socket, url);
    error[0] = 0;
    if (rc == 0 && tls_is_wanted(url)) {
        rc = tls_config(url, tls ? tls : &none, true, &config, error, error_bytes);
        if (rc == 0) rc = nng_listener_set_ptr(*listener, NNG_OPT_TLS_CONFIG, config);
        if (config && rc == 0) nng_tls_config_free(config); /* the listener holds it */
    }
    if (rc == 0) rc = nng_listener_start(*listener, 0);
    if (rc != 0 && error[0] == 0)
        snprintf(error, error_bytes, "cannot listen on %s: %s", url, tls_listen_why(rc));
    return rc;
}

void tls_listener_address(nng_listener listener, const char *url, char *out, size_t out_bytes) {
    int port = 0;
    const char *colon = strrchr(url, ':');
    if ((strncmp(url, "tcp", 3) == 0 || tls_is_wanted(url)) && colon &&
        nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0)
        snprintf(out, out_bytes, "%.*s:%d", (int)(colon - url), url, port);
    else
        snprintf(out, out_bytes, "%s", url);
}

int tls_dial(nng_socket socket, const char *url, const struct tls_options *tls,
             nng_dialer *dialer, char *error, size_t error_bytes) {
    return tls_dial_once(socket, url, tls, 0, dialer, error, error_bytes);
}

struct tls_dialling { nng_dialer dialer; nng_aio *guard; };

static void tls_give_up(void *arg) {
    struct tls_dialling *d = arg;
    if (nng_aio_result(d->guard) == 0) nng_dialer_close(d->dialer);
}

/* nng would wait for 10 s for the greeting of one that never speaks. */
static int tls_start_in_time(nng_dialer dialer, uint32_t wait_ms) {
    struct tls_dialling d = {.dialer = dialer};
    int rc = nng_aio_alloc(&d.guard, tls_give_up, &d);
    if (rc != 0) return rc;
    nng_sleep_aio((nng_duration)wait_ms, d.guard);
    rc = nng_dialer_start(dialer, 0);
    nng_aio_stop(d.guard);
    bool over = nng_aio_result(d.guard) == 0;
    nng_aio_free(d.guard);
    return over ? NNG_ETIMEDOUT : rc;
}

int tls_dial_once(nng_socket socket, const char *url, const struct tls_options *tls,
                  uint32_t wait_ms, nng_dialer *dialer, char *error, size_t error_bytes) {
    static const struct tls_options none;
    nng_tls_config *config = NULL;
    int rc = nng_dialer_create(dialer, socket, url);
    bool created = rc == 0;
    error[0] = 0;
    if (rc == 0 && tls_is_wanted(url)) {
        rc = tls_client_config(url, tls ? tls : &none, TLS_DEMAND_ALL, &config, error,
                               error_bytes);
        if (rc == 0) rc = nng_dialer_set_ptr(*dialer, NNG_OPT_TLS_CONFIG, config);
        if (config && rc == 0) nng_tls_config_free(config);
    }
    if (rc == 0) rc = wait_ms ? tls_start_in_time(*dialer, wait_ms)
                              : nng_dialer_start(*dialer, NNG_FLAG_NONBLOCK);
    if (rc != 0 && created) nng_dialer_close(*dialer);
    if (rc != 0 && error[0] == 0)
        snprintf(error, error_bytes, "cannot use the address %s: %s", url, nng_strerror(rc));
    return rc;
}
