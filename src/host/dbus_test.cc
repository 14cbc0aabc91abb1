#include "host/dbus.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <thread>

#include "host/files.h"
#include "host/systemd.h"

namespace caisson::host {
namespace {

using std::chrono::milliseconds;

// A literal with null bytes in it.
template <size_t N>
std::string raw(const char (&text)[N]) {
  return std::string(text, N - 1);
}

TEST(Dbus, CallHasTheFormOfTheSpecification) {
  DbusWriter body;
  body.text("a");
  const std::string call = dbus_call(7, "d.e", "/p", "i.f", "Do", "s", body.bytes());
  const std::string expected =
      raw("l\1\0\1"
          "\6\0\0\0"
          "\7\0\0\0"
          "\x47\0\0\0"
          "\1\1o\0\2\0\0\0/p\0\0\0\0\0\0"
          "\6\1s\0\3\0\0\0d.e\0\0\0\0\0"
          "\2\1s\0\3\0\0\0i.f\0\0\0\0\0"
          "\3\1s\0\2\0\0\0Do\0\0\0\0\0\0"
          "\x8\1g\0\1s\0"
          "\0"
          "\1\0\0\0a\0");
  EXPECT_EQ(call, expected);
  std::string bytes = call;
  auto message = take_dbus_message(bytes);
  ASSERT_TRUE(message.ok() && message->has_value());
  EXPECT_TRUE(bytes.empty());
  EXPECT_EQ((*message)->serial, 7u);
  EXPECT_EQ((*message)->member, "Do");
  EXPECT_EQ((*message)->values(), std::vector<std::string>{"a"});
}

TEST(Dbus, PropertiesAreAlignedAsTheirTypesAsk) {
  DbusProperties properties;
  properties.boolean("B", true);
  properties.u64("T", 5);
  properties.u32s("U", {1, 2});
  properties.bytes("Y", {3});
  DbusWriter writer;
  properties.write(writer);
  const std::string expected =
      raw("\x51\0\0\0\0\0\0\0"
          "\1\0\0\0B\0\1b\0\0\0\0\1\0\0\0"
          "\1\0\0\0T\0\1t\0\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0"
          "\1\0\0\0U\0\2au\0\0\0\x8\0\0\0\1\0\0\0\2\0\0\0"
          "\1\0\0\0Y\0\2ay\0\0\0\1\0\0\0\3");
  EXPECT_EQ(writer.bytes(), expected);
}

TEST(Dbus, MessagesComeInPieces) {
  const std::string call = dbus_call(1, "d", "/p", "i", "M", "", "");
  for (size_t size = 0; size < call.size(); ++size) {
    std::string part = call.substr(0, size);
    auto message = take_dbus_message(part);
    ASSERT_TRUE(message.ok()) << size;
    EXPECT_FALSE(message->has_value()) << size;
  }
}

TEST(Dbus, NonsenseIsAnErrorOrNothing) {
  std::string other = raw("B\1\0\1\0\0\0\0\0\0\0\1\0\0\0\0");
  EXPECT_EQ(take_dbus_message(other).error().code(), EPROTO);
  std::string large = raw("l\1\0\1\xff\xff\xff\x7f\1\0\0\0\0\0\0\0");
  EXPECT_EQ(take_dbus_message(large).error().code(), EPROTO);
  // Each byte of a message changed, one after the other: whatever comes of it, nothing is read past its end.
  const std::string call = dbus_call(1, "d", "/p", "i", "M", "uus", raw("\1\0\0\0\2\0\0\0\1\0\0\0x\0"));
  for (size_t at = 0; at < call.size(); ++at)
    for (const int change : {1, 0x55, 0xff}) {
      std::string changed = call;
      changed[at] = static_cast<char>(changed[at] ^ change);
      auto message = take_dbus_message(changed);
      if (message.ok() && message->has_value()) (void)(*message)->values();
    }
}

// Something that answers as a bus would: what it is told in `answers`, in place of each call's answer.
class FakeBus {
 public:
  explicit FakeBus(std::vector<std::string> answers) {
    char folder[] = "/tmp/caisson-dbus-XXXXXX";
    folder_ = mkdtemp(folder);
    listener_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path().c_str());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, answers = std::move(answers)] { serve(answers); });
  }
  ~FakeBus() {
    thread_.join();
    (void)remove_tree(folder_);
  }
  std::string path() const { return folder_ + "/s"; }
  std::string auth;

 private:
  void serve(const std::vector<std::string>& answers) {
    const UniqueFd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string got;
    auto read_more = [&] {
      char buffer[4096];
      const ssize_t size = recv(peer.get(), buffer, sizeof buffer, 0);
      if (size > 0) got.append(buffer, static_cast<size_t>(size));
      return size > 0;
    };
    while (got.find("\r\n") == std::string::npos)
      if (!read_more()) return;
    auth = got.substr(0, got.find("\r\n"));
    got.erase(0, got.find("\r\n") + 2);
    (void)send_with_fds(peer.get(), "OK 0123\r\n", {});
    while (got.find("BEGIN\r\n") == std::string::npos)
      if (!read_more()) return;
    got.erase(0, 7);
    for (const std::string& answer : answers) {
      for (;;) {
        auto call = take_dbus_message(got);
        if (!call.ok() || call->has_value()) break;
        if (!read_more()) return;
      }
      (void)send_with_fds(peer.get(), answer, {});
    }
    while (read_more()) {
    }
  }
  std::string folder_;
  UniqueFd listener_;
  std::thread thread_;
};

// An answer (type 2), an error (3) or a signal (4) as a bus sends it.
std::string message_of(uint8_t type, uint32_t reply_to, const std::string& name, const std::string& signature, const std::string& body) {
  DbusWriter writer;
  for (const uint8_t byte : {uint8_t{'l'}, type, uint8_t{0}, uint8_t{1}}) writer.byte(byte);
  writer.u32(static_cast<uint32_t>(body.size()));
  writer.u32(99);
  const size_t fields = writer.open_array(8);
  if (reply_to != 0) {
    writer.align(8);
    writer.byte(5);
    writer.signature("u");
    writer.u32(reply_to);
  }
  if (!name.empty()) {
    writer.align(8);
    writer.byte(type == DbusMessage::Error ? 4 : 3);
    writer.signature("s");
    writer.text(name);
  }
  writer.align(8);
  writer.byte(8);
  writer.signature("g");
  writer.signature(signature);
  writer.close_array(fields);
  writer.align(8);
  return writer.bytes() + body;
}

std::string body_of(const std::vector<std::string>& texts) {
  DbusWriter body;
  for (const std::string& text : texts) body.text(text);
  return body.bytes();
}

DbusConnection::Clock::time_point soon(int ms) { return DbusConnection::Clock::now() + milliseconds(ms); }

TEST(Dbus, AnAnswerIsFoundAmongSignals) {
  FakeBus bus({message_of(4, 0, "Other", "s", body_of({"early"})) + message_of(2, 1, "", "o", body_of({"/job/1"})),
               message_of(3, 2, "x.NoSuchUnit", "s", body_of({"There is none."}))});
  auto connection = DbusConnection::connect(bus.path(), soon(10000));
  ASSERT_TRUE(connection.ok()) << connection.error().message();
  auto answer = connection->call("d", "/p", "i", "Start", "", "");
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->values(), std::vector<std::string>{"/job/1"});
  auto signal = connection->next_signal();
  ASSERT_TRUE(signal.ok());
  EXPECT_EQ(signal->member, "Other");
  std::string name;
  auto refused = connection->call("d", "/p", "i", "Stop", "", "", &name);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(name, "x.NoSuchUnit");
  EXPECT_EQ(refused.error().message(), "Stop: There is none.");
  std::string digits;
  for (const char digit : std::to_string(geteuid())) digits += fmt::format("{:02x}", digit);
  EXPECT_EQ(bus.auth, std::string(1, '\0') + "AUTH EXTERNAL " + digits);
}

TEST(Dbus, ASilentBusIsGivenUp) {
  FakeBus bus({""});
  auto connection = DbusConnection::connect(bus.path(), soon(200));
  ASSERT_TRUE(connection.ok()) << connection.error().message();
  EXPECT_EQ(connection->call("d", "/p", "i", "Start", "", "").error().code(), ETIMEDOUT);
}

TEST(Systemd, BitsOfLists) {
  using Bits = std::vector<uint8_t>;
  EXPECT_EQ(bits_of_list("0"), (Bits{1}));
  EXPECT_EQ(bits_of_list("0-3,9\n"), (Bits{0x0f, 0x02}));
  EXPECT_EQ(bits_of_list(""), Bits());
  for (const char* nonsense : {"x", "3-1", "1-", "0-99999999", "-"}) EXPECT_EQ(bits_of_list(nonsense), Bits()) << nonsense;
}

TEST(Systemd, LimitsAreReadFromTheFilesThatHoldThem) {
  char folder[] = "/tmp/caisson-limits-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  auto put = [&](const char* name, const char* text) {
    FILE* file = fopen(fmt::format("{}/{}", folder, name).c_str(), "w");
    fputs(text, file);
    fclose(file);
  };
  EXPECT_TRUE(limits_of(folder).empty());
  put("memory.max", "max\n");
  put("cpu.max", "50000 100000\n");
  put("io.weight", "default 100\n8:0 50\n");
  DbusWriter told, expected;
  limits_of(folder).write(told);
  DbusProperties wanted;
  wanted.u64("MemoryMax", UINT64_MAX);
  wanted.u64("CPUQuotaPerSecUSec", 500000);
  wanted.u64("CPUQuotaPeriodUSec", 100000);
  wanted.u64("IOWeight", 100);
  wanted.write(expected);
  EXPECT_EQ(told.bytes(), expected.bytes());
  (void)remove_tree(folder);
}

}  // namespace
}  // namespace caisson::host
