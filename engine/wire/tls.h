/* Encryption of connections, for addresses that begin with tls+tcp://. Everything given as files in
 * PEM form, read when a listener or a dialer starts. */
#ifndef JUMUN_WIRE_TLS_H
#define JUMUN_WIRE_TLS_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdbool.h>
#include <stdint.h>

struct tls_options {
    char certificate[4096]; /* own one, and its key; "" = none */
    char key[4096];
    char authority[4096];   /* certificates of those who sign; "" = none */
};

/* What the environment says: JUMUN_TLS_CA, JUMUN_TLS_CERT and JUMUN_TLS_KEY; read at the first
 * call. For programs that are clients of others. Any thread. */
const struct tls_options *tls_of_environment(void);

/* Each text that is NULL or empty from the environment. False when one is too long. */
bool tls_fill(struct tls_options *tls, const char *authority, const char *certificate,
              const char *key);

/* Whether the address asks for encryption. */
bool tls_is_wanted(const char *url);

enum { TLS_HOST_BYTES = 256 };
/* "tls+tcp://host:port" -> "host". */
void tls_host_of(const char *url, char *host, size_t host_bytes);

/* What becomes of the other side's certificate. The two that only look are for finding out why
 * nothing comes about: NNG_OPT_TLS_VERIFIED of the connection tells what they saw. */
enum tls_check { TLS_DEMAND_ALL, TLS_LOOK_AT_ALL, TLS_LOOK_AT_SIGNATURE /* not at the name */ };
/* For dialling `url`; to be freed with nng_tls_config_free(). 0, or nng's error number with a
 * sentence. */
int tls_client_config(const char *url, const struct tls_options *tls, enum tls_check check,
                      nng_tls_config **config, char *error, size_t error_bytes);

/* Starts to listen at `url`, with encryption where it asks for it: then `tls` must have a
 * certificate and its key; with an authority, only those are let in who have a certificate signed
 * by it. 0, or nng's error number with a sentence in error. */
int tls_listen(nng_socket socket, const char *url, const struct tls_options *tls,
               nng_listener *listener, char *error, size_t error_bytes);

/* Why nng could not listen, by its error number. */
const char *tls_listen_why(int error_number);

/* The address that a listener at `url` really has: port 0 became a number. */
void tls_listener_address(nng_listener listener, const char *url, char *out, size_t out_bytes);

/* Dials `url` for as long as the dialer lives, and returns at once. With encryption `tls` must have
 * an authority; the certificate of the other side must be signed by it and name the host of the
 * address. */
int tls_dial(nng_socket socket, const char *url, const struct tls_options *tls,
             nng_dialer *dialer, char *error, size_t error_bytes);

/* The same, but waits until the connection stands or cannot be had; NNG_ETIMEDOUT after wait_ms.
 * 0 = does not wait. Not from a callback of nng. */
int tls_dial_once(nng_socket socket, const char *url, const struct tls_options *tls,
                  uint32_t wait_ms, nng_dialer *dialer, char *error, size_t error_bytes);

#endif
