/* Ports come in blocks. Who holds the socket of a block's name holds its ports: a name of the
 * kernel's, not the file system's, which is free again with the end of the process, and which each
 * network namespace has for itself, like the ports. */
#include "tests/lib/ports.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Up to 30999. The same in tests/lib/ports.py. */
enum { PORTS_FIRST = 20000, PORTS_BLOCK = 50, PORTS_BLOCKS = 220 };

static int ports_held[PORTS_BLOCKS]; /* descriptor + 1 of a block that is ours */

static bool ports_take(int block) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int bytes = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "jumun-test-ports-%d", block);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
    if (ports_held[block]) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    if (bind(fd, (struct sockaddr *)&name, size) != 0) {
        close(fd);
        return false;
    }
    ports_held[block] = fd + 1;
    return true;
}

static void ports_give_back(int block) {
    close(ports_held[block] - 1);
    ports_held[block] = 0;
}

static bool ports_can_bind(int port, in_addr_t host) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(host)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return is_free;
}

/* Takes the blocks from `first` on, if all of them and all ports are free. */
static bool ports_take_range(int first, int blocks, int count) {
    int taken = 0, port = PORTS_FIRST + first * PORTS_BLOCK, last = port + count;
    if (first + blocks > PORTS_BLOCKS) return false;
    while (taken < blocks && ports_take(first + taken)) taken++;
    while (taken == blocks && port < last && ports_can_bind(port, INADDR_LOOPBACK) &&
           ports_can_bind(port, INADDR_ANY))
        port++;
    if (port == last) return true;
    while (taken > 0) ports_give_back(first + --taken);
    return false;
}

int ports_pick(int count) {
    int blocks = (count + PORTS_BLOCK - 1) / PORTS_BLOCK;
    int start = (int)((long)getpid() * 7 % PORTS_BLOCKS);
    for (int i = 0; i < PORTS_BLOCKS; i++) {
        int first = (start + i) % PORTS_BLOCKS;
        if (ports_take_range(first, blocks, count)) return PORTS_FIRST + first * PORTS_BLOCK;
    }
    fprintf(stderr, "FAILED: no %d free ports in a row\n", count);
    exit(1);
}
