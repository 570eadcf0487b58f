#include "clients/sdk/reach.h"

#include <nng/nng.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/wire/tls.h"

enum {
    REACH_DIAL_MS = 2000,
    REACH_FIRST_MS = 1000,  /* a greeting, or the answer to ours, begins at once */
    REACH_ANSWER_MS = 4000,
    REACH_URL_BYTES = 300
};

enum reach_peer { REACH_PEER_PLAIN, REACH_PEER_TLS, REACH_PEER_OTHER, REACH_PEER_SILENT };

/* Protocols of nng, as greetings have them. */
enum { REACH_SP_BYTES = 6, REACH_SP_PUB = 0x20, REACH_SP_REP = 0x31, REACH_SP_PULL = 0x51 };

/* One connection of its own. */
struct reach_link {
    nng_aio *aio;
    nng_stream_dialer *dialer;
    nng_stream *stream;
};

/* What the other side says first. */
struct reach_heard {
    uint8_t data[8];
    size_t bytes;
};

/* -- one connection ---------------------------------------------------------------------------- */

static int reach_dial(struct reach_link *l, const char *url, nng_tls_config *config) {
    *l = (struct reach_link){0};
    int rc = nng_aio_alloc(&l->aio, NULL, NULL);
    if (rc == 0) rc = nng_stream_dialer_alloc(&l->dialer, url);
    if (rc == 0 && config) rc = nng_stream_dialer_set_ptr(l->dialer, NNG_OPT_TLS_CONFIG, config);
    if (rc != 0) return rc;
    nng_aio_set_timeout(l->aio, REACH_DIAL_MS);
    nng_stream_dialer_dial(l->dialer, l->aio);
    nng_aio_wait(l->aio);
    rc = nng_aio_result(l->aio);
    if (rc == 0) l->stream = nng_aio_get_output(l->aio, 0);
    return rc;
}

static int reach_receive(struct reach_link *l, struct reach_heard *heard,
                         nng_duration patience_ms) {
    nng_iov part = {.iov_buf = heard->data, .iov_len = sizeof heard->data};
    heard->bytes = 0;
    nng_aio_set_timeout(l->aio, patience_ms);
    int rc = nng_aio_set_iov(l->aio, 1, &part);
    if (rc != 0) return rc;
    nng_stream_recv(l->stream, l->aio);
    nng_aio_wait(l->aio);
    rc = nng_aio_result(l->aio);
    if (rc == 0) heard->bytes = nng_aio_count(l->aio);
    return rc;
}

static void reach_send(struct reach_link *l, const void *data, size_t bytes) {
    nng_iov part = {.iov_buf = (void *)(uintptr_t)data, .iov_len = bytes};
    nng_aio_set_timeout(l->aio, REACH_ANSWER_MS);
    if (nng_aio_set_iov(l->aio, 1, &part) != 0) return;
    nng_stream_send(l->stream, l->aio);
    nng_aio_wait(l->aio);
}

static void reach_hang_up(struct reach_link *l) {
    if (l->stream) {
        nng_stream_close(l->stream);
        nng_stream_free(l->stream);
    }
    if (l->dialer) nng_stream_dialer_free(l->dialer);
    if (l->aio) nng_aio_free(l->aio);
}

/* -- who is there ------------------------------------------------------------------------------ */

/* What any server of TLS answers, be it that nothing suits it. */
static const uint8_t reach_hello[] = {
    0x16, 0x03, 0x01, 0x00, 0x2d,                   /* a record: handshake, 45 bytes */
    0x01, 0x00, 0x00, 0x29, 0x03, 0x03,             /* client hello, 41 bytes: TLS 1.2 */
    0x4a, 0x75, 0x6d, 0x75, 0x6e, 0x4a, 0x75, 0x6d, /* 32 random ones that need not be that */
    0x75, 0x6e, 0x4a, 0x75, 0x6d, 0x75, 0x6e, 0x4a,
    0x75, 0x6d, 0x75, 0x6e, 0x4a, 0x75, 0x6d, 0x75,
    0x6e, 0x4a, 0x75, 0x6d, 0x75, 0x6e, 0x4a, 0x75,
    0x00, 0x00, 0x02, 0x00, 0x2f, 0x01, 0x00        /* no session, one cipher, no compression */
};

static enum reach_peer reach_peer_of(const struct reach_heard *h) {
    static const uint8_t greeting[] = {0, 'S', 'P', 0};
    if (h->bytes == 0) return REACH_PEER_SILENT;
    if (h->bytes >= sizeof greeting && memcmp(h->data, greeting, sizeof greeting) == 0)
        return REACH_PEER_PLAIN;
    return h->data[0] == 0x15 || h->data[0] == 0x16 ? REACH_PEER_TLS : REACH_PEER_OTHER;
}

/* REACH_GOOD for a port whose greeting says that it answers requests, as those for clients do. */
static enum reach reach_port_of(const struct reach_heard *h, char *sentence) {
    unsigned kind = h->bytes >= REACH_SP_BYTES ? h->data[4] * 256u + h->data[5] : REACH_SP_REP;
    const char *text = "a port of nng's is there that answers no requests: which one is it?";
    if (kind == REACH_SP_REP) return REACH_GOOD;
    if (kind == REACH_SP_PULL)
        text = "this is a port for the other nodes of a cluster (--peer-listen, or the one behind "
               "it), not for clients: those dial --listen, by default 4 ports above --peer-listen";
    if (kind == REACH_SP_PUB)
        text = "this is a port for notifications (--notify-listen), not for requests: those go to "
               "--listen, by default 1 port above that of a node, and 1 below that of a replica";
    snprintf(sentence, REACH_SENTENCE_BYTES, "%s", text);
    return REACH_FAULT;
}

/* Who answers at HOST:PORT, found by its first bytes. 0, or nng's error number. */
static int reach_ask(const char *place, bool encrypted, struct reach_heard *heard) {
    char url[REACH_URL_BYTES];
    struct reach_link link;
    *heard = (struct reach_heard){0};
    snprintf(url, sizeof url, "tcp://%s", place);
    int rc = reach_dial(&link, url, NULL);
    if (rc == 0 && !encrypted) reach_receive(&link, heard, REACH_FIRST_MS);
    if (rc == 0 && heard->bytes == 0) {
        reach_send(&link, reach_hello, sizeof reach_hello);
        reach_receive(&link, heard, REACH_FIRST_MS);
    }
    reach_hang_up(&link);
    return rc;
}

static enum reach reach_not_dialled(int rc, char *sentence) {
    const char *text = nng_strerror(rc);
    if (rc == NNG_ECONNREFUSED) text = "nothing listens there (connection refused): does it run?";
    if (rc == NNG_EADDRINVAL) text = "its host is not known";
    if (rc == NNG_ETIMEDOUT)
        text = "nothing answers there: is the address right, and no firewall in between?";
    snprintf(sentence, REACH_SENTENCE_BYTES, "%s", text);
    return REACH_FAULT;
}

/* -- why the greeting fails -------------------------------------------------------------------- */

/* Whether the greeting comes through: 0, or nng's error number. `*trusted`: whether the other
 * side's certificate passes what `check` looks at, also when the other side then refuses ours. */
static int reach_greet(const char *address, const struct tls_options *tls, enum tls_check check,
                       bool *trusted, struct reach_heard *heard, char *sentence) {
    nng_tls_config *config;
    struct reach_link link;
    *heard = (struct reach_heard){0};
    *trusted = false;
    int rc = tls_client_config(address, tls, check, &config, sentence, REACH_SENTENCE_BYTES);
    if (rc != 0) return rc;
    /* nng 1.5.2 loses an encrypted greeting now and then: once more. */
    for (int attempt = 0; attempt < 2; attempt++) {
        rc = reach_dial(&link, address, config);
        if (rc == 0) rc = reach_receive(&link, heard, REACH_ANSWER_MS);
        if (link.stream) nng_stream_get_bool(link.stream, NNG_OPT_TLS_VERIFIED, trusted);
        reach_hang_up(&link);
        if (rc != NNG_ETIMEDOUT) break;
    }
    nng_tls_config_free(config);
    return rc;
}

static enum reach reach_refused(const struct tls_options *tls, char *sentence) {
    if (tls->certificate[0] == 0)
        snprintf(sentence, REACH_SENTENCE_BYTES, "it ends the TLS greeting: it seems to want a "
                 "certificate of its clients (--tls-cert and --tls-key)");
    else
        snprintf(sentence, REACH_SENTENCE_BYTES, "it ends the TLS greeting: it seems not to take "
                 "the certificate in %.300s. Is that signed by the --tls-ca of the server, and in "
                 "date?", tls->certificate);
    return REACH_FAULT;
}

static enum reach reach_unknown(const char *address, const struct tls_options *tls,
                                char *sentence) {
    char host[TLS_HOST_BYTES];
    tls_host_of(address, host, sizeof host);
    snprintf(sentence, REACH_SENTENCE_BYTES, "the TLS greeting does not end. To be looked at: "
             "--tls-ca, --tls-cert and --tls-key, here and there; the name in the server's "
             "certificate; and what this says: openssl s_client -connect %s -servername %s "
             "-verify_hostname %s -CAfile %.200s", strstr(address, "://") + 3, host, host,
             tls->authority);
    return REACH_UNKNOWN;
}

static enum reach reach_look_encrypted(const char *address, const struct tls_options *tls,
                                       char *sentence) {
    char host[TLS_HOST_BYTES];
    struct reach_heard heard;
    bool trusted, signature;
    int rc = reach_greet(address, tls, TLS_LOOK_AT_ALL, &trusted, &heard, sentence);
    if (sentence[0]) return REACH_FAULT;
    if (rc == NNG_ETIMEDOUT) return reach_unknown(address, tls, sentence);
    if (trusted && rc == 0) return reach_port_of(&heard, sentence);
    if (trusted) return reach_refused(tls, sentence);
    tls_host_of(address, host, sizeof host);
    rc = reach_greet(address, tls, TLS_LOOK_AT_SIGNATURE, &signature, &heard, sentence);
    if (rc == NNG_ETIMEDOUT) return reach_unknown(address, tls, sentence);
    if (signature)
        snprintf(sentence, REACH_SENTENCE_BYTES, "its certificate does not name \"%s\": dial it by "
                 "a name that stands in it", host);
    else
        snprintf(sentence, REACH_SENTENCE_BYTES, "its certificate is not trusted: it is not signed "
                 "by those of --tls-ca %.300s, or out of date", tls->authority);
    return REACH_FAULT;
}

enum reach reach_look(const char *address, const struct tls_options *tls,
                      char sentence[REACH_SENTENCE_BYTES]) {
    bool encrypted = tls_is_wanted(address);
    const char *place = strstr(address, "://");
    struct reach_heard heard;
    sentence[0] = 0;
    if (!place || (!encrypted && strncmp(address, "tcp://", 6) != 0)) return REACH_UNKNOWN;
    if (encrypted && tls->authority[0] == 0) {
        snprintf(sentence, REACH_SENTENCE_BYTES, "it needs --tls-ca, or JUMUN_TLS_CA");
        return REACH_FAULT;
    }
    int rc = reach_ask(place + 3, encrypted, &heard);
    if (rc != 0) return reach_not_dialled(rc, sentence);
    enum reach_peer peer = reach_peer_of(&heard);
    if (peer == REACH_PEER_PLAIN && !encrypted) return reach_port_of(&heard, sentence);
    if (peer == REACH_PEER_TLS && encrypted) return reach_look_encrypted(address, tls, sentence);
    const char *text = "a connection is taken there, but no greeting comes: is it stopped, another "
                       "kind of server, or a waiting node's port for other nodes (--peer-listen)? "
                       "Clients dial --listen, by default 4 ports above that";
    if (peer == REACH_PEER_PLAIN) text = "it does not encrypt: write tcp:// instead of tls+tcp://";
    if (peer == REACH_PEER_TLS) text = "it wants encryption: write tls+tcp:// instead of tcp://";
    if (peer == REACH_PEER_OTHER) text = "another kind of server is there";
    snprintf(sentence, REACH_SENTENCE_BYTES, "%s", text);
    return REACH_FAULT;
}
