import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One node of the published server code, on loopback, for tests: its home, its data folder, its
 * HTTP port and its transport port. No bootstrap checks and no security run here: never a
 * deployment.
 */
public final class ElasticsearchNode {
  private static final int STOP_SECONDS = 10;

  public static void main(String[] args) throws Exception {
    Path home = Path.of(args[0]);
    Settings settings =
        Settings.builder()
            .put("path.home", home)
            .put("path.data", args[1])
            .put("path.logs", args[1])
            .put("discovery.type", "single-node")
            .put("http.host", "127.0.0.1")
            .put("http.port", args[2])
            .put("transport.host", "127.0.0.1")
            .put("transport.port", args[3])
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
    LogConfigurator.registerErrorListener();
    LogConfigurator.configureWithoutConfig(Settings.EMPTY);
    Environment environment = new Environment(settings, home.resolve("config"));
    Node node =
        new Node(
            environment,
            PluginsLoader.createPluginsLoader(
                PluginsLoader.loadModulesBundles(environment.modulesDir(), true),
                PluginsLoader.loadPluginsBundles(environment.pluginsDir(), true),
                Map.of()));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(node)));
    node.start();
    Thread.currentThread().join();
  }

  private static void stop(Node node) {
    try {
      node.prepareForClose();
      node.close();
      node.awaitClose(STOP_SECONDS, TimeUnit.SECONDS);
    } catch (Exception error) {
      error.printStackTrace();
    }
  }
}
