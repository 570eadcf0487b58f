#include "engine/wire/address.h"

#include <ctype.h>
#include <string.h>

enum { PORT_MAX = 65535, PORT_DIGITS_MAX = 5 };

static const char *port_fault(const char *port, size_t size, unsigned lowest) {
    unsigned number = 0;
    if (size == 0) return "has no port";
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)port[i]) || i == PORT_DIGITS_MAX) return "has a bad port";
        number = number * 10 + (unsigned)(port[i] - '0');
    }
    return number < lowest || number > PORT_MAX ? "has a bad port" : NULL;
}

/* HOST:PORT; the last colon parts them, as an IPv6 address in brackets has some of its own. */
static const char *host_fault(const char *host, size_t size, bool heard) {
    const char *colon = memrchr(host, ':', size);
    const char *bracket = size && *host == '[' ? memchr(host, ']', size) : NULL;
    if (size && *host == '[' && (!bracket || bracket == host + 1)) return "has a bad host";
    if (!colon || (bracket && colon < bracket)) return "has no port";
    if (colon == host && !heard) return "has no host";
    size_t host_bytes = (size_t)(colon - host);
    if (bracket ? bracket + 1 != colon : memchr(host, ':', host_bytes) != NULL)
        return "has a bad host";
    for (size_t i = 0; i < host_bytes; i++)
        if (isspace((unsigned char)host[i]) || host[i] == '/') return "has a bad host";
    return port_fault(colon + 1, size - host_bytes - 1, heard ? 0 : 1);
}

static const char *fault_of(const char *address, size_t size, bool heard) {
    static const struct { const char *scheme; bool has_port; } schemes[] = {
        {"tcp://", true}, {"tls+tcp://", true}, {"ipc://", false}, {"inproc://", false}};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t head = strlen(schemes[i].scheme);
        if (size < head || memcmp(address, schemes[i].scheme, head) != 0) continue;
        if (schemes[i].has_port) return host_fault(address + head, size - head, heard);
        return size == head ? "has nothing behind //" : NULL;
    }
    return "does not begin with tcp:// or tls+tcp://";
}

const char *address_fault(const char *address, size_t size) {
    return fault_of(address, size, false);
}

const char *address_listen_fault(const char *address) {
    return fault_of(address, strlen(address), true);
}

bool address_list_is_bad(const char *addresses, const char *prefix, struct address_bad *bad) {
    const char *at = addresses;
    size_t prefix_bytes = prefix ? strlen(prefix) : 0;
    for (;;) {
        size_t size = strcspn(at, ",");
        size_t skip = prefix && strncmp(at, prefix, prefix_bytes) == 0 ? prefix_bytes : 0;
        const char *fault = size ? address_fault(at + skip, size - skip) : "is empty";
        *bad = (struct address_bad){at, size, fault};
        if (bad->fault) return true;
        if (at[size] == '\0') return false;
        at += size + 1;
    }
}
