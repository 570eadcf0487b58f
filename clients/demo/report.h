/* What happened while the plan was played, for people and as JSON. */
#ifndef JUMUN_DEMO_REPORT_H
#define JUMUN_DEMO_REPORT_H

#include "clients/demo/play.h"
#include "clients/demo/verify.h"

struct report_options {
    bool json, color, no_hints;
    const char *endpoint;      /* for the commands to try next */
    const struct verify *verify; /* NULL = orders were not read back */
};

/* Commands that the node's shards have answered since they started; 0 when it does not answer. */
uint64_t report_commands(jumun_client *client);

/* Asks the node for its status and the stores, prints to stdout. False when the node did not
 * answer; what is known without it is printed all the same. */
bool report_print(const struct play *play, const struct retail *retail,
                  const struct report_options *options);

#endif
