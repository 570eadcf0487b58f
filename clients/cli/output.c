#include "clients/cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool output_reader_gone(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

int output_end(const char **why) {
    errno = 0;
    bool written = fflush(stdout) == 0;
    if (written && !ferror(stdout)) return 0;
    if (output_reader_gone()) return OUTPUT_READER_GONE;
    *why = written ? "not all of it could be written" : strerror(errno);
    return -1;
}
