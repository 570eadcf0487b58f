/* The form of the addresses that programs are given. Not whether anybody is there. */
#ifndef JUMUN_WIRE_ADDRESS_H
#define JUMUN_WIRE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

/* Behind a colon, after what is wrong. */
#define ADDRESS_FORM_ONE "an address is tcp://HOST:PORT or tls+tcp://HOST:PORT"
#define ADDRESS_FORM ADDRESS_FORM_ONE ", several are separated by commas"

/* What is wrong with the form of an address that is to be dialled, of `size` bytes: words that go
 * behind it, such as "has no port"; NULL = nothing. Good are tcp://HOST:PORT, tls+tcp://HOST:PORT
 * (HOST a name, an IPv4 address, or an IPv6 address in brackets), ipc://PATH and inproc://NAME. */
const char *address_fault(const char *address, size_t size);

/* The same of one to listen at, where port 0 is any free one, and no host all of the machine's. */
const char *address_listen_fault(const char *address);

/* The first of several addresses, separated by commas, that is not good. */
struct address_bad {
    const char *at;            /* inside the list */
    size_t size;
    const char *fault;         /* as above */
};

/* Whether one of the list is bad; an empty list is. `prefix` may stand before each of them; NULL =
 * nothing may. */
bool address_list_is_bad(const char *addresses, const char *prefix, struct address_bad *bad);

#endif
