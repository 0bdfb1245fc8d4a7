// live555's RTSP server, for the end-to-end tests: what many cameras have inside.
//
// Usage: live555-server [--digest USER:PASSWORD] FILE...
// Prints `port N` when it listens. FILEs end in .264, .265 or .mkv and are served as /0, /1, and so on: from the
// beginning for each client, and once. It ends when standard input closes, so it never outlives its test.

#include <cstdio>
#include <cstdlib>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "BasicUsageEnvironment.hh"
#include "GroupsockHelper.hh"
#include "liveMedia.hh"

namespace {

char volatile ended = 0;

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void on_input(void*, int) {
  if (getchar() == EOF) ended = 1;
}

struct MatroskaPending {
  RTSPServer* server;
  ServerMediaSession* session;
};

void on_matroska(MatroskaFileServerDemux* demux, void* given) {
  auto* pending = static_cast<MatroskaPending*>(given);
  while (ServerMediaSubsession* track = demux->newServerMediaSubsession()) pending->session->addSubsession(track);
  pending->server->addServerMediaSession(pending->session);
  ended = 1;
}

void serve(UsageEnvironment& env, RTSPServer* server, const std::string& name, const char* file) {
  auto* session = ServerMediaSession::createNew(env, name.c_str(), name.c_str(), "a file");
  if (ends_with(file, ".mkv")) {
    MatroskaPending pending{server, session};
    ended = 0;
    MatroskaFileServerDemux::createNew(env, file, on_matroska, &pending);
    env.taskScheduler().doEventLoop(&ended);
    ended = 0;
    return;
  }
  if (ends_with(file, ".265")) {
    session->addSubsession(H265VideoFileServerMediaSubsession::createNew(env, file, False));
  } else {
    session->addSubsession(H264VideoFileServerMediaSubsession::createNew(env, file, False));
  }
  server->addServerMediaSession(session);
}

}  // namespace

int main(int count, char** arguments) {
  // What one frame may have.
  OutPacketBuffer::maxSize = 2000000;
  TaskScheduler* scheduler = BasicTaskScheduler::createNew();
  UsageEnvironment* env = BasicUsageEnvironment::createNew(*scheduler);
  // Nobody outside of this machine.
  ReceivingInterfaceAddr = SendingInterfaceAddr = inet_addr("127.0.0.1");
  ReceivingInterfaceAddr6 = in6addr_loopback;
  UserAuthenticationDatabase* users = nullptr;
  int next = 1;
  if (next + 1 < count && std::string(arguments[next]) == "--digest") {
    std::string given = arguments[next + 1];
    size_t colon = given.find(':');
    users = new UserAuthenticationDatabase;
    users->addUserRecord(given.substr(0, colon).c_str(), given.substr(colon + 1).c_str());
    next += 2;
  }
  RTSPServer* server = RTSPServer::createNew(*env, 0, users);
  if (server == nullptr) {
    fprintf(stderr, "cannot listen: %s\n", env->getResultMsg());
    return 1;
  }
  for (int number = 0; next < count; next++, number++) serve(*env, server, std::to_string(number), arguments[next]);
  // rtsp://ADDRESS:PORT/
  std::string url = server->ipv4rtspURLPrefix();
  printf("port %d\n", atoi(url.substr(url.rfind(':') + 1).c_str()));
  fflush(stdout);
  scheduler->setBackgroundHandling(0, SOCKET_READABLE, on_input, nullptr);
  scheduler->doEventLoop(&ended);
  return 0;
}
