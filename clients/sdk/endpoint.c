#include "clients/sdk/endpoint.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/wire/address.h"
#include "engine/wire/tls.h"

bool endpoint_addresses_are_bad(const char *addresses, char *error, size_t error_bytes) {
    struct address_bad bad;
    if (!address_list_is_bad(addresses, NULL, &bad)) return false;
    if (error && error_bytes)
        snprintf(error, error_bytes, "\"%.*s\" %s: " ADDRESS_FORM,
                 (int)(bad.size < 60 ? bad.size : 60), bad.at, bad.fault);
    return true;
}

int endpoint_new(struct endpoint **endpoint, const char *address, const jumun_options *options,
                 void (*on_change)(void *arg, bool up), void *arg, char *error,
                 size_t error_bytes) {
    struct endpoint *e = calloc(1, sizeof *e);
    if (!e) {
        snprintf(error, error_bytes, "%s: no memory", address);
        return connection_error_no_memory();
    }
    snprintf(e->addresses, sizeof e->addresses, "%s", address);
    circuit_breaker_init(&e->breaker, options->circuit_failures,
                         options->circuit_open_ms * 1000000LL);
    struct tls_options tls;
    int rc = tls_fill(&tls, options->tls_ca, options->tls_cert, options->tls_key) ? 0 : NNG_EINVAL;
    if (rc != 0) snprintf(error, error_bytes, "the name of a file for TLS is too long");
    else rc = connection_open(&e->connection, address, &tls, on_change, arg, error,
                              error_bytes);
    if (rc == 0) *endpoint = e;
    else free(e);
    return rc;
}

void endpoint_look(struct endpoint *e, const jumun_options *options, int64_t now_ns) {
    struct tls_options tls;
    if (!connection_is_overdue(&e->connection, now_ns)) return;
    if (tls_fill(&tls, options->tls_ca, options->tls_cert, options->tls_key))
        connection_redial(&e->connection, e->addresses, &tls, now_ns);
}

void endpoint_delete(struct endpoint *endpoint) {
    connection_close(&endpoint->connection);
    free(endpoint);
}
