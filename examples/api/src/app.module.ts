import { type DynamicModule, Module } from '@nestjs/common';

import { AuthModule } from './auth/auth.module.js';
import { GracefulStop } from './common/graceful-stop.js';
import type { DatabaseConfig, HttpConfig } from './config.js';
import { DatabaseModule } from './database/database.module.js';
import { HealthModule } from './health/health.module.js';
import { PagesModule } from './pages/pages.module.js';

@Module({})
export class AppModule {
  static forRoot(http: HttpConfig, database: DatabaseConfig): DynamicModule {
    return {
      module: AppModule,
      imports: [
        DatabaseModule.forRoot(database),
        AuthModule.forRoot(http.jwtSecret),
        PagesModule.forRoot(http.reservedSlugs),
        HealthModule,
      ],
      providers: [GracefulStop],
    };
  }
}
