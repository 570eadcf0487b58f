/* Why no connection to an address comes about, as far as it can be found out from this side: who
 * dials in the background (connection.h) is never told. */
#ifndef JUMUN_SDK_REACH_H
#define JUMUN_SDK_REACH_H

#include <stddef.h>

struct tls_options;

enum { REACH_SENTENCE_BYTES = 1200 };

enum reach {
    REACH_GOOD,    /* who answers requests is there, and lets this client in */
    REACH_FAULT,   /* it is known why not */
    REACH_UNKNOWN  /* it is not */
};

/* Dials `address` by itself, several times if it has to, and hangs up. The sentence goes behind the
 * address and a colon: what is wrong, or what to look at; empty with REACH_GOOD, and for what is
 * neither tcp:// nor tls+tcp://. Takes milliseconds where something answers, else up to some
 * seconds. Nothing but a greeting is sent; an encrypted one also to a server whose certificate is
 * not trusted, since what is wrong with that is the question. Any thread; not from a callback. */
enum reach reach_look(const char *address, const struct tls_options *tls,
                      char sentence[REACH_SENTENCE_BYTES]);

#endif
