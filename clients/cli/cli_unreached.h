/* What keeps an address from being reached: looked at once a command has found no connection. */
#ifndef JUMUN_CLI_CLI_UNREACHED_H
#define JUMUN_CLI_CLI_UNREACHED_H

#include "clients/cli/cli.h"
#include "clients/sdk/reach.h"

/* Of a command that was not sent: cli->unreached has a line for each address of --endpoint that
 * cannot be reached, and says why. Of one that was not sent because a node waits for its cluster,
 * the code becomes a refusal that says so. Other results stay as they are. */
void cli_unreached_node(struct cli *cli, jumun_result *result);

/* Why an address cannot be reached, if it cannot and that can be found out; else `otherwise`. */
const char *cli_unreached_why(const char *address, const char *otherwise,
                              char sentence[REACH_SENTENCE_BYTES]);

/* Those lines on stderr, of comma-separated addresses. */
void cli_tell_unreached(const char *addresses);

#endif
